package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/socket"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// defaultIdleTimeout is Envoy's tcp_proxy idle_timeout.
const defaultIdleTimeout = time.Hour

// carriage is the two directions of a TCP connection that is forwarded.
type carriage struct {
	watch *idleWatch
	// there goes to the upstream, back to the client; nil where they are not both sockets.
	there, back *socket.Relay
	ended       atomic.Int32 // directions that came to their end

	client, upstream net.Conn
	answered         []byte      // what came from the upstream already
	sent             int64       // to the client; once over is done
	reset            atomic.Bool // by the upstream
	refused          error       // of the upstream, by TLS; once over is done
	over             sync.WaitGroup
}

// carry copies both ways until both have ended, or nothing moved for the chain's idle
// timeout. first is what the client said already, answered what came from the upstream.
func (c *connection) carry(up net.Conn, first, answered []byte) {
	idle := defaultIdleTimeout
	if t := c.plan.Chain.TCP; t != nil && t.IdleTimeout > 0 {
		idle = t.IdleTimeout
	}
	w := watchIdle(c.stream, up, idle, func() {
		c.kill(ending{reason: reason.DownstreamTimeout, flags: []string{"SI"}, detail: fmt.Sprintf("no data for %s", idle)})
	})
	defer w.stop()
	if t := c.plan.Chain.TCP; t != nil && t.MaxDuration > 0 {
		longest := time.AfterFunc(t.MaxDuration, func() {
			c.kill(ending{reason: reason.DownstreamTimeout, flags: []string{"DT"}, detail: fmt.Sprintf("open for %s, which is the longest that is allowed", t.MaxDuration)})
		})
		defer longest.Stop()
	}
	k := &carriage{watch: w, client: c.stream, upstream: up, answered: answered}
	k.there, _ = socket.NewRelay(plain(up), plain(c.stream), &c.p.relays, w.moved)
	k.back, _ = socket.NewRelay(plain(c.stream), plain(up), &c.p.relays, w.moved)
	if len(first) > 0 {
		n, err := up.Write(first)
		if c.entry.BytesReceived = int64(n); err != nil {
			reset(c.net)
			c.entry.Reason, c.entry.Flags = reason.UpstreamReset, []string{"UC"}
			c.entry.Detail = "the upstream closed before it took the first bytes"
			if said := upstream.Refusal(up, err); upstream.RefusedTLS(said) {
				c.refused(said)
			}
			return
		}
	}
	k.over.Add(1)
	c.p.workers.Run(maxIdleWorkers, k, task.work)
	c.entry.BytesReceived += k.direction(up, c.stream, k.there)
	k.over.Wait()
	c.entry.BytesSent = k.sent
	switch {
	case k.refused != nil:
		c.refused(k.refused)
	case k.reset.Load():
		c.entry.Reason, c.entry.Flags = reason.UpstreamReset, []string{"UR"}
		c.entry.Detail = "the upstream reset the connection"
	}
}

// refused notes that the upstream did not take TLS as it is.
func (c *connection) refused(err error) {
	c.entry.Reason, c.entry.Flags = reason.UpstreamTLSFailed, []string{"UC"}
	c.entry.Detail, c.entry.UpstreamTransportFailure = "the upstream refused TLS: "+err.Error(), err.Error()
}

// work is the way back to the client.
func (k *carriage) work() {
	defer k.over.Done()
	k.sent = k.answer()
}

// direction copies src to dst to its end, and passes that end on. Between two sockets of
// which the other direction has ended, too, closing them does. A failure of either side
// ends both at once, since what follows could not be complete.
func (k *carriage) direction(dst, src net.Conn, relay *socket.Relay) int64 {
	n, srcErr, dstErr := k.copy(dst, src, relay)
	if src == k.upstream && isReset(srcErr) || dst == k.upstream && isReset(dstErr) {
		k.reset.Store(true)
	}
	if src == k.upstream && n == 0 && upstream.RefusedTLS(srcErr) {
		k.refused = srcErr
	}
	err := errors.Join(srcErr, dstErr)
	if err == nil && (k.ended.Add(1) < 2 || relay == nil) {
		err = closeWrite(dst)
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
	return n
}

// answer is the direction to the client, which begins with what came already.
func (k *carriage) answer() int64 {
	n, err := 0, error(nil)
	if len(k.answered) > 0 {
		n, err = k.client.Write(k.answered)
		k.answered = nil
	}
	if err != nil {
		reset(k.client)
		reset(k.upstream)
		return int64(n)
	}
	return int64(n) + k.direction(k.client, k.upstream, k.back)
}

func (k *carriage) copy(dst, src net.Conn, relay *socket.Relay) (n int64, srcErr, dstErr error) {
	if relay != nil {
		srcErr, dstErr = relay.Run()
		return relay.Total(), srcErr, dstErr
	}
	return pump(dst, src, k.watch)
}

// closeWrite passes on an end of data. A connection that cannot be closed half is closed.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		err := half.CloseWrite()
		if errors.Is(err, net.ErrClosed) || isNotConnected(err) {
			return nil // the peer has closed everything already
		}
		return err
	}
	return conn.Close()
}

// plain is the connection that conn carries the bytes of, unchanged, for connections
// that say so (in-process ones that have addresses of their own).
func plain(conn net.Conn) net.Conn {
	if p, ok := conn.(interface{ Plain() net.Conn }); ok {
		return p.Plain()
	}
	return conn
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// pump moves all bytes of src to dst, where they are not both sockets.
func pump(dst, src net.Conn, w *idleWatch) (total int64, srcErr, dstErr error) {
	p := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(p)
	for {
		n, err := src.Read(*p)
		if n > 0 {
			w.moved()
			m, werr := dst.Write((*p)[:n])
			total += int64(m)
			if werr != nil {
				return total, nil, werr
			}
		}
		if err == io.EOF {
			return total, nil, nil
		}
		if err != nil {
			return total, err, nil
		}
	}
}

// idleWatch calls f when nothing moved between two connections for a time. Spliced
// bytes never pass through the proxy, so it asks the kernel when data was last seen
// (TCP_INFO), and only when the timeout could have passed: one timer per connection
// and two system calls per timeout. Where the proxy copies itself, moved tells it.
type idleWatch struct {
	a, b    net.Conn
	timeout time.Duration
	idle    func()
	last    atomic.Int64 // nanoseconds since start of the last moved
	start   time.Time

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func watchIdle(a, b net.Conn, timeout time.Duration, idle func()) *idleWatch {
	w := &idleWatch{a: a, b: b, timeout: timeout, idle: idle, start: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(timeout, w.check)
	return w
}

func (w *idleWatch) moved() { w.last.Store(int64(time.Since(w.start))) }

func (w *idleWatch) check() {
	quiet := time.Since(w.start) - time.Duration(w.last.Load())
	for _, conn := range []net.Conn{w.a, w.b} {
		if q, ok := quietFor(conn); ok {
			quiet = min(quiet, q)
		}
	}
	w.mu.Lock()
	over := w.over
	if !over && quiet < w.timeout {
		w.timer.Reset(w.timeout - quiet)
	}
	w.mu.Unlock()
	if !over && quiet >= w.timeout {
		w.idle()
	}
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// reset closes conn so that the peer sees it at once, and nothing more is sent, not
// even the end of TLS.
func reset(conn net.Conn) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
