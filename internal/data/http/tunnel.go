package http

import (
	"io"
	"net"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// runTunnel answers with the upstream's 101 (or 2xx to CONNECT) and then copies bytes
// in both directions until both have ended.
func (x *exchange) runTunnel() {
	x.close, x.broken, x.answered = true, true, true
	x.tunnelling.Store(true)
	s := &x.resp
	s.Fields.RemoveHop()
	x.editResponse()
	x.finishFields()
	b := http1.AppendStatusLine(x.back[:0], s.Status, s.Reason)
	b = s.Fields.Append(b)
	if s.Status == 101 {
		b = append(append(append(b, "connection: upgrade\r\nupgrade: "...), s.Upgrade...), "\r\n"...)
	}
	b = append(b, "\r\n"...)
	x.back = append(b, x.conn.reader.TakeBuffered()...)
	early := int64(len(x.back) - len(b))
	x.limit.Store(0) // a route's timeout does not apply to what follows
	if _, err := x.s.c.Net.Write(x.back); err != nil {
		x.clientGone()
		x.abandonUpstream()
		return
	}
	up := make(chan int64, 1)
	go func() { up <- x.tunnelUp() }()
	x.entry.BytesSent = early + x.copyHalf(x.s.c.Net, &x.conn.wire)
	x.entry.BytesReceived = <-up
	x.entry.ResponseDone = time.Since(x.start)
	switch c := x.s.watch.interrupted(); c {
	case causeNone:
	case causePolicy, causeStream:
		f := x.interruption()
		x.entry.Reason, x.entry.Detail = f.reason, f.detail
		if f.flag != "" {
			x.flag(f.flag)
		}
	default:
		x.entry.Reason, x.entry.Detail = reason.DownstreamClosed, "the tunnel was closed"
	}
	x.abandonUpstream()
}

// tunnelUp copies from the client to the upstream.
func (x *exchange) tunnelUp() int64 {
	var n int64
	if first := x.s.reader.TakeBuffered(); len(first) > 0 {
		if _, err := x.conn.conn.Write(first); err != nil {
			x.endHalf(x.conn.conn, err)
			return 0
		}
		n = int64(len(first))
	}
	return n + x.copyHalf(x.conn.conn, &x.s.wire)
}

// copyHalf copies until src ends, and then ends dst's sending direction. While it
// waits it holds no buffer: there are many quiet tunnels.
func (x *exchange) copyHalf(dst net.Conn, src *wire) int64 {
	var total int64
	for {
		buf, n, err := src.readFirst()
		if n > 0 {
			x.moved.Add(1)
			var wrote int
			wrote, err = dst.Write(buf[:n])
			total += int64(wrote)
			src.pool.Return(buf)
		}
		if err != nil {
			x.endHalf(dst, err)
			return total
		}
	}
}

// endHalf passes on the end of one direction; a failure ends both.
func (x *exchange) endHalf(dst net.Conn, err error) {
	if w, ok := dst.(interface{ CloseWrite() error }); ok && err == io.EOF && w.CloseWrite() == nil {
		return
	}
	_ = x.s.c.Net.SetDeadline(longAgo)
	_ = x.conn.conn.SetDeadline(longAgo)
}
