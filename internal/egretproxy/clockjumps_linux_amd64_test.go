package egretproxy_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/file/filetest"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// The time of day of a running egret-proxy jumps, ten days ahead and ten days back, under
// load: no request fails, also none that is under way, and changes arrive. A new stream to the control plane wants certificates that are good
// by the clock; when the clock is right again, it opens.
func TestClockJumps(t *testing.T) {
	if os.Getenv(jumpingEnv) != "" {
		becomeJumping(t, flag.Args())
	}
	const host, want = "api.example.com", "200 origin: api.example.com"
	gateway, a, dir := runtest.FreeAddress(t), filetest.NewAuthority(t), t.TempDir()
	until := time.Now().Add(time.Hour)
	o := egretd.Options{Paths: []string{dir}, TLSAddress: runtest.FreeAddress(t).String(), MonitoringAddress: "127.0.0.1:0", TLS: xds.TLS{CA: a.CA}}
	o.TLS.Cert, o.TLS.Key = a.Issue(t, "istiod", until)
	own := &xds.TLS{CA: a.CA, Names: []string{filetest.SPIFFE("istiod")}}
	own.Cert, own.Key = a.Issue(t, "proxy", until)
	change := func(what string) {
		t.Helper()
		next, asked := askedWebsite(t)
		policy(t, dir, host, next, gateway)
		runtest.Eventually(t, what, asked.Load)
	}
	origin, _ := askedWebsite(t)
	policy(t, dir, host, origin, gateway)
	p := startPlane(t, o)
	text := filepath.Join(t.TempDir(), "bootstrap")
	replace(t, text, string(writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), own, p.secure)))
	proxy := spawnJumping(t, "egret-proxy", "-c", text)
	runtest.Eventually(t, "the gateway answers", func() bool { return ask(gateway.String(), host) == want })

	finish := halfARequest(t, gateway, host)
	stop := load(gateway.String(), host, want)
	t.Cleanup(func() { stop() })
	for _, day := range []struct {
		jump    time.Duration
		refused string // what crypto/x509 says of a certificate
	}{{10 * 24 * time.Hour, "is after"}, {-10 * 24 * time.Hour, "is before"}} {
		from := proxy.size(t)
		proxy.off.Store(int64(day.jump / time.Second))
		runtest.Eventually(t, "requests are logged with the other day", func() bool {
			return strings.Contains(proxy.said(t, from), time.Now().Add(day.jump).UTC().Format("\n[2006-01-02T"))
		})
		if got := finish(); got != want {
			t.Errorf("what was under way, %v: %s", day.jump, got)
		}
		change(fmt.Sprintf("a change arrives, %v", day.jump))
		p.stop()
		p = startPlane(t, o)
		runtest.Eventually(t, "the control plane's certificate is refused", func() bool {
			return strings.Contains(proxy.said(t, from), day.refused)
		})
		proxy.off.Store(0)
		checkBrought(t, p)
		change(fmt.Sprintf("a change arrives, after %v", day.jump))
		if got := finish(); got != want {
			t.Errorf("what was under way, after %v: %s", day.jump, got)
		}
	}
	n, bad := stop()
	if len(bad) > 0 || n == 0 {
		t.Errorf("%d of %d requests failed: %.9s", len(bad), n, bad)
	}
	t.Logf("%d requests", n)
}

// askedWebsite is a website named origin that answers when it has a request whole, and
// tells whether it was asked.
func askedWebsite(t *testing.T) (at netip.AddrPort, asked *atomic.Bool) {
	t.Helper()
	asked = &atomic.Bool{}
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the test ends
		}
		asked.Store(true)
		fmt.Fprintf(w, "origin: %s", r.Host)
	}), asked
}

// halfARequest sends the better half of a request; each finish sends the rest, gives the
// answer, and sends half of the next on the same connection.
func halfARequest(t *testing.T, at netip.AddrPort, host string) (finish func() string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), runtest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	half := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n1", host)
	if _, err := io.WriteString(c, half); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	return func() string {
		if err := c.SetReadDeadline(time.Now().Add(runtest.Patience)); err != nil {
			return err.Error()
		}
		if _, err := io.WriteString(c, "2"); err != nil {
			return err.Error()
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return err.Error()
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err.Error()
		}
		if _, err := io.WriteString(c, half); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %s", r.StatusCode, body)
	}
}
