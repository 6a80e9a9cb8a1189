package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/bench/control"
	"github.com/egret-mesh/egret/internal/runtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const registry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin, namespace: default}
spec:
  hosts: [origin.bench.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %d}]
  endpoints: [{address: 127.0.0.1}]
`

// The process under test does what the benchmark is about: it forwards the origin's
// host, refuses others, and writes a line for each.
func TestSidecar(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello to ", r.Host)
	}))
	defer origin.Close()
	logFile := filepath.Join(t.TempDir(), "access.log")
	plane, err := control.Start(control.Options{
		YAML:      fmt.Sprintf(registry, origin.Listener.Addr().(*net.TCPAddr).Port),
		AccessLog: logFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	at := runtest.FreeAddress(t)
	o := options{
		xds: plane.Address(), node: control.SidecarNode(), log: slog.New(slog.DiscardHandler),
		captures: []capture{{at, "origin.bench.test", 80}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o) }()
	open(t, at, ended)
	for _, c := range []struct {
		host, body, reason string
		status             int
	}{
		{"origin.bench.test", "hello to origin.bench.test", "", 200},
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
	if err != nil || !strings.Contains(string(lines), `"GET / HTTP/1.1" 200`) || !strings.Contains(string(lines), "host_mismatch") {
		t.Errorf("access log: %v\n%s", err, lines)
	}
	if nacks := plane.Nacks(); len(nacks) > 0 {
		t.Errorf("NACKs %q", nacks)
	}
}

// open waits until the address takes connections.
func open(t *testing.T, at netip.AddrPort, ended <-chan error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", at.String()); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("run ends: %v", err)
		case <-tick.C:
		}
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

func TestParseCapture(t *testing.T) {
	got, err := parseCapture("127.0.0.1:8080=origin.test:80")
	want := capture{netip.MustParseAddrPort("127.0.0.1:8080"), "origin.test", 80}
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(capture{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "x=y:1", "127.0.0.1:8080=origin.test", "127.0.0.1:8080=origin.test:0", "127.0.0.1:8080=:80"} {
		if c, err := parseCapture(bad); err == nil {
			t.Errorf("%q gives %+v", bad, c)
		}
	}
}
