package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The process under test does what the benchmark is about: it forwards the origin's
// host, refuses others, and writes a line for each.
func TestSidecar(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello to ", r.Host)
	}))
	defer origin.Close()
	logFile := filepath.Join(t.TempDir(), "access.log")
	o := options{
		origin: netip.MustParseAddrPort(origin.Listener.Addr().String()), listen: "127.0.0.1:0",
		accessLog: logFile, entries: 3, log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := make(chan netip.AddrPort, 1)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o, func(a netip.AddrPort) { address <- a }) }()
	var at netip.AddrPort
	select {
	case at = <-address:
	case err := <-ended:
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, body, reason string
		status             int
	}{
		{originHost, "hello to " + originHost, "", 200},
		{"elsewhere.test", "", "host_mismatch", 502},
	} {
		status, reason, body := get(t, at, c.host)
		if status != c.status || reason != c.reason || c.body != "" && body != c.body {
			t.Errorf("%s: %d %q %q", c.host, status, reason, body)
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("run does not end")
	}
	lines, err := os.ReadFile(logFile)
	if err != nil || strings.Count(string(lines), "\n") != 2 {
		t.Errorf("access log: %v\n%s", err, lines)
	}
}

func get(t *testing.T, at netip.AddrPort, host string) (status int, reason, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+at.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.Close = host, true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("x-egret-reason"), string(b)
}
