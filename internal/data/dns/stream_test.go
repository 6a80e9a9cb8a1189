package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/egret-mesh/egret/internal/runtest"
)

func TestStreamTakesSeveralQueriesAndRefusesLongOnes(t *testing.T) {
	src := &source{}
	src.set(registry...)
	s := New(Options{Source: src})
	_, tcp := serve(t, s)
	c, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	conn := &mdns.Conn{Conn: c}
	for range 3 {
		if err := conn.WriteMsg(question("www.example.com", mdns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if _, err := c.Write([]byte{0xff, 0xff, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && err == nil {
		t.Errorf("a query of 65535 bytes: %v, want the connection closed", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	src := &source{}
	src.set(registry...)
	s := New(Options{Source: src})
	_, tcp := serve(t, s)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range maxStreams {
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		conn := &mdns.Conn{Conn: c}
		if err := conn.WriteMsg(question("www.example.com", mdns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connection %d: %v, want it closed", maxStreams+1, err)
	}
	runtest.Eventually(t, "it is counted", func() bool { return s.Stats().Dropped == 1 })
}
