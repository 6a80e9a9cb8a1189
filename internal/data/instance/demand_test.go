package instance_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// The first request to a host fetches it, the next ones do not; what does not exist is
// refused, and fetched when it exists.
func TestHTTPOnDemand(t *testing.T) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%v", two), func(t *testing.T) {
			w := newWorld(t, config.Limits{})
			w.plane.host("a.com", "a.com", w.plain.Listener.Addr().String())
			w.plane.host("x.wild.com", "*.wild.com", w.plain.Listener.Addr().String())
			c := w.client(two)
			w.want(c, "a.com", "hello from a.com")
			if w.asked() != 1 {
				t.Errorf("%d questions for one host", w.asked())
			}
			w.want(c, "a.com", "hello from a.com")
			w.want(w.client(two), "A.com:80", "hello from A.com:80")
			if w.asked() != 1 {
				t.Errorf("%d questions for one host", w.asked())
			}
			w.want(c, "x.wild.com", "hello from x.wild.com")
			w.want(c, "b.com", "502 not_in_registry")
			asked := w.asked()
			w.want(c, "b.com", "502 not_in_registry")
			if w.asked() != asked {
				t.Error("an unknown host was asked for again")
			}
			w.plane.host("b.com", "b.com", w.plain.Listener.Addr().String())
			w.until("b.com exists", func() bool { return w.get(c, "b.com") == "hello from b.com" })
			w.plane.remove("a.com")
			w.until("a.com is removed", func() bool { return w.get(c, "a.com") == "502 not_in_registry" })
			if w.asked() > asked+1 { // and the name of a.com, for the reason
				t.Errorf("%d questions, want %d", w.asked(), asked+1)
			}
		})
	}
}

func TestTLSOnDemand(t *testing.T) {
	w := newWorld(t, config.Limits{})
	w.plane.host("a.com", "a.com", w.secure.Listener.Addr().String())
	var open []interface{ Close() error }
	for range 2 {
		c, err := w.tls("a.com")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
		if w.asked() != 1 {
			t.Errorf("%d questions for one server name", w.asked())
		}
	}
	if _, err := w.tls("b.com"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("an unknown name: %v", err)
	}
	// Live connections are judged again when the name is gone.
	w.plane.remove("a.com")
	w.until("live connections are closed", func() bool { return w.log.Has("policy_changed") && w.proxy.Info().Connections == 0 })
	if _, err := w.tls("a.com"); err == nil {
		t.Error("a removed name is served")
	}
	_ = open
}

func TestDNSOnDemand(t *testing.T) {
	w := newWorld(t, config.Limits{Timeout: 300 * time.Millisecond})
	w.plane.host("a.com", "a.com", w.plain.Listener.Addr().String())
	for range 2 {
		// A machine that is busy may take longer than the short time that a query waits here.
		w.until("a.com has an address", func() bool { return w.query("a.com") == "NOERROR 240.240.0.1" })
		w.until("an unknown name has a sinkhole", func() bool { return strings.HasPrefix(w.query("b.com"), "NOERROR 240.242.0.") })
	}
	if w.asked() != 2 {
		t.Errorf("%d questions for two names", w.asked())
	}
	w.plane.stop()
	if got := w.query("c.com"); got != "SERVFAIL" {
		t.Errorf("without a control plane: %s", got)
	}
	w.until("the log says why", func() bool { return w.log.Has("config_not_available") })
	if got := w.query("a.com"); got != "NOERROR 240.240.0.1" {
		t.Errorf("a held name without a control plane: %s", got)
	}
	w.plane.start()
}

// While the control plane is away what is held goes on, and what is not is refused: also
// where everything would be allowed. A client that waits holds nobody up.
func TestControlPlaneAway(t *testing.T) {
	w := newWorld(t, config.Limits{Timeout: 300 * time.Millisecond})
	w.plane.host("a.com", "a.com", w.plain.Listener.Addr().String())
	w.plane.host("b.com", "b.com", w.plain.Listener.Addr().String())
	c := w.client(true)
	w.until("a.com is held", func() bool { return w.get(c, "a.com") == "hello from a.com" })
	w.until("another is known not to exist", func() bool { return w.get(c, "known-not-to-exist.com") == "502 not_in_registry" })
	w.plane.stop()
	w.want(c, "b.com", "503 config_not_available")
	w.want(c, "a.com", "hello from a.com")
	w.want(c, "known-not-to-exist.com", "502 not_in_registry")
	if _, err := w.tls("b.com"); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("TLS: %v", err)
	}
	w.until("the log says why", func() bool { return w.log.Has("config_not_available") })
	w.plane.start()
	w.until("b.com is there", func() bool { return w.get(c, "b.com") == "hello from b.com" })
	w.want(c, "a.com", "hello from a.com")
}

func TestAllowAny(t *testing.T) {
	w := newWorld(t, config.Limits{Timeout: 300 * time.Millisecond})
	w.plane.host("any", "any", w.plain.Listener.Addr().String())
	w.plane.set(xds.RouteType, "80", resourcetest.Route(t, `{"name":"80","vhds":{"configSource":{"ads":{}}},"virtualHosts":[{"name":"allow_any","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c-any"}}]}]}`))
	w.until("the policy is loosened", func() bool { return w.get(w.client(false), "unknown.com") == "hello from unknown.com" })
	w.plane.stop()
	w.want(w.client(false), "unknown.com", "hello from unknown.com")
	w.want(w.client(false), "other.com", "503 config_not_available")
	w.plane.start()
}

// Many that wait for one host ask once; other streams of the connection go on; a client
// that leaves is let go.
func TestWaiting(t *testing.T) {
	w := newWorld(t, config.Limits{Timeout: time.Hour})
	w.plane.host("a.com", "a.com", w.plain.Listener.Addr().String())
	w.plane.host("b.com", "b.com", w.plain.Listener.Addr().String())
	c := w.client(true)
	w.want(c, "a.com", "hello from a.com")
	w.plane.stop()
	var waiting sync.WaitGroup
	results := make(chan string, 20)
	for i := range 20 {
		one := c
		if i%2 == 0 {
			one = w.client(false)
		}
		waiting.Go(func() { results <- w.get(one, "b.com") })
	}
	w.until("they wait", func() bool { return w.proxy.Info().Connections >= 11 && w.asked() == 2 })
	w.want(c, "a.com", "hello from a.com")
	left := w.client(false)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://c.com/", nil)
		_, err := left.Do(r)
		gone <- err
	}()
	w.until("one more waits", func() bool { return w.asked() == 3 })
	leave()
	if err := <-gone; err == nil {
		t.Error("an answer without a control plane")
	}
	w.until("the one that left is let go", func() bool { return w.log.Has("c.com") })
	w.plane.start()
	waiting.Wait()
	for range 20 {
		if got := <-results; got != "hello from b.com" {
			t.Errorf("%q", got)
		}
	}
	if w.asked() != 3 {
		t.Errorf("%d questions", w.asked())
	}
}

// What made room is fetched again; a live connection keeps its chain.
func TestEvictionWithTraffic(t *testing.T) {
	w := newWorld(t, config.Limits{Held: 2})
	for _, host := range []string{"a.com", "b.com", "c.com"} {
		w.plane.host(host, host, w.plain.Listener.Addr().String())
	}
	c := w.client(false)
	for range 2 {
		for _, host := range []string{"a.com", "b.com", "c.com"} {
			w.want(c, host, "hello from "+host)
		}
	}
	if s := w.proxy.Store().OnDemandStats(); s.Held != 2 || s.Evicted < 2 {
		t.Errorf("%+v", s)
	}
	for _, host := range []string{"a.com", "b.com", "c.com"} {
		w.plane.host(host, host, w.secure.Listener.Addr().String())
	}
	c.CloseIdleConnections()
	live, err := w.tls("a.com")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for range 3 {
		for _, host := range []string{"b.com", "c.com"} {
			other, err := w.tls(host)
			if err != nil {
				t.Fatal(err)
			}
			_ = other.Close()
			w.until("it ends", func() bool { return w.proxy.Info().Connections <= 1 })
		}
	}
	if _, err := fmt.Fprintf(live, "GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var b [12]byte
	if _, err := live.Read(b[:]); err != nil || string(b[:]) != "HTTP/1.1 200" {
		t.Errorf("%q, %v", b[:], err)
	}
}
