package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Keys of the Secrets cacerts and istio-ca-secret (istio.io/istio/security/pkg/pki/ca).
const (
	FileCert  = "ca-cert.pem"    // the certificate that signs
	FileKey   = "ca-key.pem"     // its key
	FileChain = "cert-chain.pem" // from the certificate that signs to the root
	FileRoot  = "root-cert.pem"  // the roots of the mesh
)

// maxAuthorities bounds the certificates of one file.
const maxAuthorities = 64

// clockSkew is how long before now certificates begin to be valid: a peer's clock may be
// slow. Istio's value.
const clockSkew = 2 * time.Minute

// Authority signs for the mesh. It does not change.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// between are sent after a leaf: from the certificate that signs up to, but without, the
	// root. Empty when that is the root itself.
	between []*x509.Certificate
	// roots are all authorities of the mesh, the one that signs last.
	roots    []*x509.Certificate
	pool     *x509.CertPool
	rootsPEM []byte
}

// NewAuthority makes an authority of the content of a Secret. Chain and root may be missing
// where the certificate signs itself. Errors name the key of the Secret.
func NewAuthority(files map[string][]byte, now time.Time) (*Authority, error) {
	certs, err := parseCertificates(FileCert, files[FileCert])
	if err != nil {
		return nil, err
	}
	a := &Authority{cert: certs[0], pool: x509.NewCertPool()}
	if err := checkAuthority(a.cert, now); err != nil {
		return nil, fmt.Errorf("%s: %w", FileCert, err)
	}
	if a.key, err = parseKey(files[FileKey]); err != nil {
		return nil, fmt.Errorf("%s: %w", FileKey, err)
	}
	if public, ok := a.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(a.key.Public()) {
		return nil, fmt.Errorf("%s is not the key of %s", FileKey, FileCert)
	}
	chain := certs[1:]
	if len(bytes.TrimSpace(files[FileChain])) > 0 {
		more, err := parseCertificates(FileChain, files[FileChain])
		if err != nil {
			return nil, err
		}
		chain = append(chain, more...)
	}
	roots := []*x509.Certificate{a.cert}
	if len(bytes.TrimSpace(files[FileRoot])) > 0 || a.cert.CheckSignatureFrom(a.cert) != nil {
		if roots, err = parseCertificates(FileRoot, files[FileRoot]); err != nil {
			return nil, err
		}
	}
	return a, a.anchor(chain, roots, now)
}

// anchor finds the way from the certificate that signs to one of the roots.
func (a *Authority) anchor(chain, roots []*x509.Certificate, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain {
		between.AddCert(c)
	}
	for _, c := range roots {
		a.pool.AddCert(c)
	}
	ways, err := a.cert.Verify(x509.VerifyOptions{Roots: a.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%s does not come from %s by %s: %w", FileCert, FileRoot, FileChain, err)
	}
	way := slices.MinFunc(ways, func(x, y []*x509.Certificate) int { return len(x) - len(y) })
	last := way[len(way)-1]
	a.between = way[:len(way)-1]
	for _, c := range roots {
		if !c.Equal(last) && !slices.ContainsFunc(a.roots, c.Equal) {
			a.roots = append(a.roots, c)
		}
	}
	a.roots = append(a.roots, last)
	for _, c := range a.roots {
		a.rootsPEM = append(a.rootsPEM, encode(c.Raw)...)
	}
	return nil
}

func checkAuthority(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("the certificate is no authority (CA:TRUE is missing)")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the certificate may not sign others (key usage)")
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return checkKey(c.PublicKey)
}

// NewSelfSigned makes the files of an authority that signs itself, for the life given. With
// the files of another it keeps that one's key and name, so that what either of the two
// signed is valid under both; nil makes a new key.
func NewSelfSigned(organization string, life time.Duration, last *Authority, now time.Time) (map[string][]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{organization}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var key crypto.Signer
	if last != nil {
		key, template.Subject, template.RawSubject = last.key, last.cert.Subject, last.cert.RawSubject
		template.SubjectKeyId = last.cert.SubjectKeyId
	} else if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		FileCert: encode(der), FileRoot: encode(der),
		FileKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// DueAt is when an authority that signs itself is to be replaced: when the grace part of its
// life is left (Istio: 0.2).
func (a *Authority) DueAt(grace float64) time.Time {
	life := a.cert.NotAfter.Sub(a.cert.NotBefore)
	return a.cert.NotAfter.Add(-time.Duration(grace * float64(life)))
}

// NotAfter is when the certificate that signs expires.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Roots are the authorities of the mesh, in PEM, the one that signs last.
func (a *Authority) Roots() []byte { return a.rootsPEM }

// Pool is Roots to verify with.
func (a *Authority) Pool() *x509.CertPool { return a.pool }

// issue signs a template for a key: the serial number, and the time from a little before now
// to now and life, are set here. It does not outlive the authority.
func (a *Authority) issue(template *x509.Certificate, public any, life time.Duration, now time.Time) (der []byte, err error) {
	if err := checkAuthority(a.cert, now); err != nil {
		return nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-clockSkew), now.Add(life)
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.BasicConstraintsValid = true // and no authority
	return x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
}

// Sign makes a certificate of a workload: the leaf, what is between, and the roots, each in
// PEM.
func (a *Authority) Sign(id ID, public any, life time.Duration, now time.Time) ([]string, error) {
	template := workload(id)
	der, err := a.issue(template, public, life, now)
	if err != nil {
		return nil, err
	}
	out := []string{string(encode(der))}
	for _, c := range slices.Concat(a.between, a.roots) {
		out = append(out, string(encode(c.Raw)))
	}
	return out, nil
}

// workload is a certificate of an identity for both sides of a connection. It has no
// subject, so that crypto/x509 marks the name as critical (X509-SVID 4.1, RFC 5280 4.2.1.6).
func workload(id ID) *x509.Certificate {
	t := endEntity()
	t.URIs = append(t.URIs, id.url())
	return t
}

func endEntity() *x509.Certificate {
	return &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// newSerial is 127 random bits: positive, and not guessed (CA/Browser Forum, 7.1).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// parseCertificates reads at least one certificate. name is for errors.
func parseCertificates(name string, text []byte) (out []*x509.Certificate, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("%s is missing or empty", name)
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a certificate is expected, not a %s", name, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, len(out)+1, err)
		}
		if out = append(out, c); len(out) > maxAuthorities {
			return nil, fmt.Errorf("%s: more than %d certificates", name, maxAuthorities)
		}
	}
	if len(bytes.TrimSpace(text)) > 0 || len(out) == 0 {
		return nil, fmt.Errorf("%s: not a certificate in PEM", name)
	}
	return out, nil
}

// parseKey reads a private key: PKCS #8, or the older forms of RSA (PKCS #1) and EC (RFC 5915).
func parseKey(text []byte) (crypto.Signer, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errors.New("missing or empty")
	}
	var block *pem.Block
	for block, text = pem.Decode(text); block != nil && block.Type == "EC PARAMETERS"; {
		block, text = pem.Decode(text) // openssl ecparam -genkey writes these first
	}
	if block == nil {
		return nil, errors.New("not a private key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("the key is encrypted, and there is no password for it")
	default:
		err = fmt.Errorf("a private key is expected, not a %s", block.Type)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	return signer, checkKey(signer.Public())
}

// Sizes of RSA keys that are taken, in bits: smaller ones are weak, larger ones let a caller
// make the authority work.
const minRSA, maxRSA = 2048, 8192

// checkKey takes the kinds of keys that proxies of the field can use.
func checkKey(public any) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("an RSA key of %d bits; %d to %d are taken", bits, minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s; P-256, P-384 and P-521 are taken", k.Curve.Params().Name)
	}
	return fmt.Errorf("a key of type %T; RSA and ECDSA are taken", public)
}
