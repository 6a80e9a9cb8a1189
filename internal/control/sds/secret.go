package sds

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of what a Secret may have, in bytes; the API server's for all of it is 1 MiB. They
// keep what reading costs small: a key is judged in time that grows with its square or worse.
const (
	maxKeyPEM   = 16 << 10
	maxChainPEM = 256 << 10
	maxCAPEM    = 512 << 10
)

// Secret is the TLS data of a Secret, and nothing else of it.
type Secret struct {
	// pair and authorities are the last good ones; nil: there are none.
	pair        *pair
	authorities *authorities
	// pairProblem and authoritiesProblem say why the Secret does not give what it should; they
	// name its keys.
	pairProblem, authoritiesProblem error
}

// pair is a certificate with its key, in PEM.
type pair struct {
	chain, key, staple []byte
	notAfter           time.Time
}

// authorities are certificates that others must come from, in PEM.
type authorities struct{ ca, crl []byte }

// keys of a Secret: those of Istio's generic Secrets, and of kubernetes.io/tls
// (istio.io/istio/pilot/pkg/credentials/kube).
var (
	genericPair = [...]string{"cert", "key"}
	tlsPair     = [...]string{"tls.crt", "tls.key"}
)

const tlsStaple = "tls.ocsp-staple"

// ReadSecret reads the data of a Secret. Of what cannot be used the version before stays:
// last, which may be nil, is that of the same Secret. What is not there is not kept.
func ReadSecret(data map[string][]byte, last *Secret) *Secret {
	if last == nil {
		last = &Secret{}
	}
	s := &Secret{}
	var bad bool
	if s.pair, bad, s.pairProblem = readPair(data); bad {
		s.pair = last.pair
	}
	if s.authorities, bad, s.authoritiesProblem = readAuthorities(data); bad {
		s.authorities = last.authorities
	}
	return s
}

// Same says that two versions of a Secret give the same.
func (s *Secret) Same(o *Secret) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.pair.same(o.pair) && s.authorities.same(o.authorities) &&
		text(s.pairProblem) == text(o.pairProblem) && text(s.authoritiesProblem) == text(o.authoritiesProblem)
}

func (p *pair) same(o *pair) bool {
	if p == nil || o == nil {
		return p == o
	}
	return bytes.Equal(p.chain, o.chain) && bytes.Equal(p.key, o.key) && bytes.Equal(p.staple, o.staple)
}

func (a *authorities) same(o *authorities) bool {
	if a == nil || o == nil {
		return a == o
	}
	return bytes.Equal(a.ca, o.ca) && bytes.Equal(a.crl, o.crl)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// readPair finds a certificate with its key. bad: there is one, and it cannot be used.
func readPair(data map[string][]byte) (p *pair, bad bool, err error) {
	for _, keys := range [...][2]string{genericPair, tlsPair} {
		chain, key := data[keys[0]], data[keys[1]]
		if len(chain) == 0 || len(key) == 0 {
			continue
		}
		leaf, err := checkPair(keys, chain, key)
		if err != nil {
			return nil, true, err
		}
		p = &pair{chain: bytes.Clone(chain), key: bytes.Clone(key), notAfter: leaf.NotAfter}
		if keys == tlsPair {
			p.staple = bytes.Clone(data[tlsStaple])
		}
		return p, false, nil
	}
	return nil, false, fmt.Errorf("neither %s and %s nor %s and %s are in it, or one of them is empty; it has %s",
		tlsPair[0], tlsPair[1], genericPair[0], genericPair[1], keysOf(data))
}

func checkPair(keys [2]string, chain, key []byte) (*x509.Certificate, error) {
	certs, err := certificates(chain, maxChainPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keys[0], err)
	}
	if len(key) > maxKeyPEM {
		return nil, fmt.Errorf("%s: it has %d bytes, at most %d are read", keys[1], len(key), maxKeyPEM)
	}
	// The certificate is good, so what is wrong now is the key, or that it is another's.
	if _, err := tls.X509KeyPair(chain, key); err != nil {
		return nil, fmt.Errorf("%s: %s", keys[1], strings.TrimPrefix(err.Error(), "tls: "))
	}
	return certs[0], nil
}

// readAuthorities finds authorities. bad: there are some, and they cannot be used.
func readAuthorities(data map[string][]byte) (a *authorities, bad bool, err error) {
	for _, keys := range [...][2]string{{"cacert", "crl"}, {"ca.crt", "ca.crl"}} {
		ca, crl := data[keys[0]], data[keys[1]]
		if len(ca) == 0 {
			continue
		}
		if _, err := certificates(ca, maxCAPEM); err != nil {
			return nil, true, fmt.Errorf("%s: %w", keys[0], err)
		}
		if len(crl) > maxCAPEM {
			return nil, true, fmt.Errorf("%s: it has %d bytes, at most %d are read", keys[1], len(crl), maxCAPEM)
		}
		return &authorities{ca: bytes.Clone(ca), crl: bytes.Clone(crl)}, false, nil
	}
	return nil, false, fmt.Errorf("neither ca.crt nor cacert is in it, or it is empty; it has %s", keysOf(data))
}

// certificates reads PEM, all of whose certificates must be good; there is at least one.
func certificates(text []byte, most int) ([]*x509.Certificate, error) {
	if len(text) > most {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(text), most)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %s", len(out)+1, strings.TrimPrefix(err.Error(), "x509: "))
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM is in it")
	}
	return out, nil
}

// keysOf names what a Secret has, in short.
func keysOf(data map[string][]byte) string {
	all := slices.Sorted(maps.Keys(data))
	const most = 6
	out := make([]string, 0, most)
	for _, k := range all[:min(len(all), most)] {
		out = append(out, fmt.Sprintf("%.60q", k))
	}
	switch {
	case len(all) == 0:
		return "nothing"
	case len(all) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), len(all)-most)
	}
	return strings.Join(out, ", ")
}
