package standalone

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInsideConnection(t *testing.T) {
	n := newNetwork()
	at := netip.AddrPortFrom(gatewayAddress, 8080)
	ln, err := n.listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	heard := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer func() { _ = c.Close() }()
		data, _ := io.ReadAll(c) // until the other side's half close
		_, _ = io.WriteString(c, "bye")
		heard <- string(data) + " to " + c.LocalAddr().String()
	}()
	c, err := n.DialContext(context.Background(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "hello to 240.243.0.2:8080" {
		t.Errorf("heard %q", got)
	}
	if data, err := io.ReadAll(c); err != nil || string(data) != "bye" {
		t.Errorf("answer %q, %v", data, err)
	}
}

func TestInsideRefusals(t *testing.T) {
	n := newNetwork()
	at := netip.AddrPortFrom(gatewayAddress, 8080)
	if _, err := n.DialContext(context.Background(), "tcp", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: got %v, want connection refused", err)
	}
	ln, err := n.listen(at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.listen(at); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("second listener: got %v, want address in use", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := n.DialContext(ctx, "tcp", at.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts, cancelled: got %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: got %v", err)
	}
	if ln, err = n.listen(at); err != nil {
		t.Errorf("listen again after close: %v", err)
	} else {
		_ = ln.Close()
	}
}

func TestOutsideIsDialledOutside(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := newNetwork().DialContext(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*net.TCPConn); !ok {
		t.Errorf("got a %T, want *net.TCPConn, so that the kernel can splice", c)
	}
	_ = c.Close()
}
