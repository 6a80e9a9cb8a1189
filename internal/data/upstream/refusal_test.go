package upstream

import (
	"crypto/tls"
	"net"
	"testing"
)

// A host that refuses the certificate of TLS 1.3 may have reset the connection before the
// first byte is written: what it said is there still.
func TestRefusal(t *testing.T) {
	own := newAuthority(t).leaf(t, "a.example")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	closed := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert}).Handshake()
			_ = c.(*net.TCPConn).SetLinger(0)
			err = c.Close()
		}
		closed <- err
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if err == nil || RefusedTLS(err) {
		t.Fatalf("writing to a connection that was reset: %v", err)
	}
	if err := Refusal(c, err); !RefusedTLS(err) {
		t.Errorf("told: %v", err)
	}
	if err := Refusal(c, net.ErrClosed); err != net.ErrClosed {
		t.Errorf("another failure is told as %v", err)
	}
}
