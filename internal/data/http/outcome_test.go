package http

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestOutliersAreEjected(t *testing.T) {
	for name, bad := range map[string]string{
		"status":   "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"gRPC":     "HTTP/1.1 200 OK\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n",
		"nonsense": "SSH-2.0-OpenSSH\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			failing, good := answering(t, bad), answering(t, okHello)
			w := newWorld(t, failing.addr, good.addr)
			c := w.clusterOf("origin", failing.addr, good.addr)
			c.Outlier = &resource.OutlierDetection{
				Consecutive5xx: resource.Enforced{Threshold: 3, Percent: 100},
				Interval:       time.Hour, BaseEjection: time.Hour, MaxEjection: time.Hour, MaxPercent: 100,
			}
			w.configure(c, w.routeTo("origin"))
			failed := 0
			for range 30 {
				if !strings.HasSuffix(w.send(get("/", "Connection: close")), "hello") {
					failed++
				}
				w.next()
			}
			if failed != 3 {
				t.Errorf("%d requests failed, want the 3 that it takes", failed)
			}
		})
	}
}

func TestOutlierStatus(t *testing.T) {
	for _, tt := range []struct {
		status int
		grpc   string
		want   int
	}{{503, "", 503}, {200, "0", 200}, {200, "14", 503}, {200, "5", 404}, {200, "nonsense", 500}} {
		if got := outlierStatus(tt.status, tt.grpc); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// With one connection and one request that may wait: the second waits for the first,
// the third is refused, as in Istio's task about circuit breaking.
func TestCircuitBreaking(t *testing.T) {
	release := make(chan struct{})
	var o *origin
	o = newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				return
			}
			o.got <- head
			<-release
			if _, err := io.WriteString(c, okHello); err != nil {
				return
			}
		}
	})
	w := newWorld(t, o.addr)
	cluster := w.clusterOf("origin", o.addr)
	limits := resource.Thresholds{MaxConnections: 1, MaxPendingRequests: 1, MaxRequests: resource.NoLimit, MaxRetries: resource.NoLimit}
	cluster.Breakers = &[2]resource.Thresholds{limits, limits}
	w.configure(cluster, w.routeTo("origin"))

	send := func() *bufio.Reader {
		c := w.dial()
		if _, err := io.WriteString(c, get("/")); err != nil {
			t.Fatal(err)
		}
		return bufio.NewReader(c)
	}
	first := send()
	o.head(t)
	// Which of the two is refused is decided by who comes first.
	a, b := send(), send()
	refused := w.next()
	if refused.Reason != reason.UpstreamOverflow || refused.Status != 503 || refused.Flags != "UO" {
		t.Fatalf("%+v", refused)
	}
	release <- struct{}{}
	release <- struct{}{}
	overloaded := 0
	for _, r := range []*bufio.Reader{first, a, b} {
		head := headOf(t, r)
		switch {
		case strings.HasPrefix(head, "HTTP/1.1 200 "):
		case hasLine(head, "x-envoy-overloaded: true") && hasLine(head, "x-egret-reason: upstream_overflow"):
			overloaded++
		default:
			t.Errorf("%q", head)
		}
	}
	if overloaded != 1 || o.conns.Load() != 1 {
		t.Errorf("%d overloaded, %d connections", overloaded, o.conns.Load())
	}
	close(release)
}
