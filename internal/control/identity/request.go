package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"
)

// maxRequest bounds a certificate request, in bytes: one for the largest RSA key that is
// taken has a tenth of it.
const maxRequest = 32 << 10

// readRequest gives the key that a certificate request is for. Nothing else of it counts:
// neither its names nor its extensions. The signature proves that who wrote it has the key.
func readRequest(text string) (crypto.PublicKey, *Refusal) {
	if len(text) > maxRequest {
		return nil, refuse(RequestTooLarge, "%d bytes, at most %d are read", len(text), maxRequest)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, refuse(RequestMalformed, "not one certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuse(RequestMalformed, "%v", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, refuse(RequestKey, "%v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		if _, insecure := errors.AsType[x509.InsecureAlgorithmError](err); insecure {
			return nil, refuse(RequestSignature, "%v", err)
		}
		return nil, refuse(RequestSignature, "it does not come from who has the key: %v", err)
	}
	return csr.PublicKey, nil
}

// lifetime is how long a certificate is valid that was asked for seconds; nothing, and less,
// is the default (Istio).
func lifetime(seconds int64, usual, most time.Duration) (time.Duration, *Refusal) {
	switch {
	case seconds <= 0:
		return min(usual, most), nil
	case seconds > int64(most/time.Second):
		return 0, refuse(LifetimeTooLong, "%d s are asked for, at most %d are given", seconds, int64(most/time.Second))
	}
	return time.Duration(seconds) * time.Second, nil
}
