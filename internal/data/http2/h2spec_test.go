package http2

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/client"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2spec "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// TestH2Spec runs all cases of h2spec, strict ones too, against the server. There is no
// exception.
func TestH2Spec(t *testing.T) {
	s := startServer(t, Options{}, answerOK)
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	c := &config.Config{Host: host, Port: n, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, Strict: true}
	ran := 0
	for _, g := range []*spec.TestGroup{generic.Spec(), h2spec.Spec(), hpack.Spec()} {
		ran += runGroup(t, c, g)
	}
	if ran < 140 {
		t.Errorf("only %d cases ran", ran)
	}
}

// answerOK reads the request and answers with a short body.
func answerOK(s *Stream) {
	var q http1.Request
	if s.ReadRequest(&q) != nil {
		return
	}
	for {
		if _, err := s.Next(); err == io.EOF {
			break
		} else if err != nil {
			return
		}
	}
	if s.WriteResponse(&http1.Response{Status: 200, Framing: http1.Length, Length: 6}, false) == nil {
		_ = s.Write([]byte("answer"), true)
	}
}

func runGroup(t *testing.T, c *config.Config, g *spec.TestGroup) int {
	n := 0
	for i, tc := range append(append([]*spec.TestCase(nil), g.Tests...), g.StrictTests...) {
		n++
		t.Run(fmt.Sprintf("%s/%d", g.ID(), i+1), func(t *testing.T) {
			t.Parallel()
			if err := runCase(c, tc); err != nil { // also where h2spec would skip it
				t.Errorf("%s: %s\n%v", tc.Desc, tc.Requirement, err)
			}
		})
	}
	for _, sub := range g.Groups {
		n += runGroup(t, c, sub)
	}
	return n
}

func runCase(c *config.Config, tc *spec.TestCase) error {
	conn, err := spec.Dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return tc.Run(c, conn)
}

// TestH2SpecClient runs h2spec's cases for clients against Client.
func TestH2SpecClient(t *testing.T) {
	c := &config.Config{Host: "127.0.0.1", Timeout: 5 * time.Second, MaxHeaderLen: 4000}
	if n := runClientGroup(t, c, client.Spec()); n < 30 {
		t.Errorf("only %d cases ran", n)
	}
}

func runClientGroup(t *testing.T, c *config.Config, g *spec.ClientTestGroup) int {
	n := 0
	for _, tc := range g.Tests {
		n++
		t.Run(fmt.Sprintf("%s/%d", g.ID(), tc.Seq), func(t *testing.T) {
			t.Parallel()
			if err := runClientCase(t, c, tc); err != nil {
				t.Errorf("%s: %s\n%v", tc.Desc, tc.Requirement, err)
			}
		})
	}
	for _, sub := range g.Groups {
		n += runClientGroup(t, c, sub)
	}
	return n
}

// runClientCase lets the case be the server of one request.
func runClientCase(t *testing.T, c *config.Config, tc *spec.ClientTestCase) error {
	near, far := loopback(t)
	conn, err := spec.Accept(c, far)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cl, err := NewClient(near, Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		s, err := cl.Open()
		if err != nil {
			return
		}
		defer s.Release()
		q := http1.Request{Method: "GET", Path: "/", Authority: "example.com"}
		if s.WriteRequest(&q, "http", true) != nil {
			return
		}
		var r http1.Response
		if s.ReadResponse(&r) != nil {
			return
		}
		for {
			if _, err := s.Next(); err != nil {
				break
			}
		}
		<-cl.Done()
	}()
	err = tc.Run(c, conn)
	cl.Close()
	<-asked
	return err
}
