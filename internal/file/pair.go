package file

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
)

// Pair is a certificate chain with its key, in PEM.
type Pair struct {
	certFile, keyFile string

	mu       sync.Mutex
	cert     *tls.Certificate
	ci, ki   os.FileInfo // of the files that were read last; nil with bytes
	failedAs error
}

// NewPair makes a Pair of two files. Nothing is opened before Get.
func NewPair(certFile, keyFile string) *Pair { return &Pair{certFile: certFile, keyFile: keyFile} }

// FixedPair makes a Pair of bytes.
func FixedPair(cert, key []byte) (*Pair, error) {
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &Pair{cert: &c}, nil
}

// Get returns the certificate. While files are being replaced one may not fit to the
// other: then, and when they are gone, the last good certificate stays, and the error
// says what is wrong with the files. Without a certificate there is always an error.
func (p *Pair) Get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.certFile == "" {
		return p.cert, nil
	}
	ci, err := os.Stat(p.certFile)
	if err != nil {
		return p.cert, err
	}
	ki, err := os.Stat(p.keyFile)
	if err != nil {
		return p.cert, err
	}
	if p.ci != nil && Same(ci, p.ci) && Same(ki, p.ki) {
		return p.cert, p.failedAs
	}
	p.ci, p.ki = ci, ki
	c, err := p.read()
	if p.failedAs = err; err == nil {
		p.cert = c
	}
	return p.cert, err
}

func (p *Pair) read() (*tls.Certificate, error) {
	certPEM, err := Read(p.certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := Read(p.keyFile)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %q with key %q: %w", p.certFile, p.keyFile, err)
	}
	return &c, nil
}
