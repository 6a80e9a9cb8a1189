package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An answer that stalls makes all requests late that became due meanwhile, also those
// that were sent after it: nothing is left out because the generator waited.
func TestRateCountsWaiting(t *testing.T) {
	const stall = 300 * time.Millisecond
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 5 {
			timer := time.NewTimer(stall)
			defer timer.Stop()
			<-timer.C
		}
	}))
	defer server.Close()
	var out bytes.Buffer
	err := run(t.Context(), []string{"rate", "-address", server.Listener.Addr().String(), "-host", "origin.test",
		"-connections", "1", "-rate", "200", "-duration", "1s"}, nil, &out)
	if err != nil {
		t.Fatal(err)
	}
	var r Rate
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	// Of 200 requests some 60 became due while the one connection was busy. A closed
	// loop would have seen a single slow one, less than one in a hundred.
	if r.Requests != 200 || r.P99 < 200_000 || r.Max < 300_000 {
		t.Errorf("%+v", r)
	}
}

func TestRateFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/closes" {
			w.Header().Set("Connection", "close")
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer server.Close()
	for path, want := range map[string]string{"/": "502", "/closes": "not kept alive"} {
		err := run(t.Context(), []string{"rate", "-address", server.Listener.Addr().String(), "-host", "x", "-path", path}, nil, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, args := range [][]string{nil, {"x"}, {"rate", "-rate", "0"}, {"rate", "-duration", "x"}} {
		if err := run(t.Context(), args, nil, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestRateHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Host != "origin.test" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	err := run(t.Context(), []string{"rate", "-h2", "-address", server.Listener.Addr().String(), "-host", "origin.test",
		"-connections", "4", "-rate", "100", "-duration", "200ms"}, nil, io.Discard)
	if err != nil {
		t.Error(err)
	}
}

func TestTCP(t *testing.T) {
	bulkPort, shortPort := servedOrigin(t)
	for _, sni := range []string{"", "origin.test"} {
		var b Bulk
		load(t, &b, "bulk", "-address", bulkPort, "-sni", sni, "-connections", "2", "-duration", "200ms")
		if b.Down < 1<<20 || b.Up < 1<<20 {
			t.Errorf("%+v", b)
		}
		var c Connect
		load(t, &c, "connect", "-address", shortPort, "-sni", sni, "-connections", "2", "-duration", "200ms")
		if c.Connections < 2 || c.Seconds < 0.2 {
			t.Errorf("%+v", c)
		}
	}
	if err := run(t.Context(), []string{"connect", "-address", bulkPort, "-duration", "100ms"}, nil, io.Discard); err == nil {
		t.Error("an origin that answers something else is taken")
	}
}

// servedOrigin is an origin that ends with the test; its addresses for bulk and connect.
func servedOrigin(t *testing.T) (bulk, short string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	lines, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"origin"}, nil, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	in := bufio.NewScanner(lines)
	for _, p := range []*string{&bulk, &short} {
		if !in.Scan() {
			t.Fatal("the origin says no address")
		}
		*p = in.Text()
	}
	return bulk, short
}

func load(t *testing.T, into any, args ...string) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, nil, &out); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
}

func TestIdle(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { open.Add(1) }))
	defer server.Close()
	in, stop := io.Pipe()
	lines, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), []string{"idle", "-address", server.Listener.Addr().String(), "-host", "x", "-connections", "50"}, in, out)
		out.Close()
	}()
	if line, err := bufio.NewReader(lines).ReadString('\n'); err != nil || line != "ready\n" {
		t.Errorf("%q, %v", line, err)
	}
	if n := open.Load(); n != 50 {
		t.Errorf("%d requests", n)
	}
	stop.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
