package http

import (
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// maxKept is the largest request body that is kept while it goes upstream, so that it
// can be sent once more: by another attempt, or to a mirror.
const maxKept = 64 << 10

// keptBody is what is kept of a request body on its way upstream. Until ended is set
// it is the upload's.
type keptBody struct {
	pool  *http1.Pool // lent body
	body  []byte
	over  bool // it is larger than what is kept
	ended atomic.Bool
}

func (k *keptBody) reset() {
	k.drop()
	k.over = false
	k.ended.Store(false)
}

func (k *keptBody) drop() {
	if k.body != nil {
		k.pool.Return(k.body)
		k.body = nil
	}
}

// add keeps a piece. expected is how large the body will be, or less.
func (k *keptBody) add(piece []byte, expected int) {
	need := len(k.body) + len(piece)
	if need > maxKept {
		k.over = true
		k.drop()
		return
	}
	if need > cap(k.body) {
		buf := k.pool.Get(max(need, expected))
		buf = buf[:copy(buf, k.body)]
		k.drop()
		k.body = buf
	}
	k.body = append(k.body, piece...)
}

// whole reports whether the body has ended and all of it is there.
func (k *keptBody) whole() bool { return k.ended.Load() && !k.over }

// keeper is a sink that keeps what goes through it, before it is sent.
type keeper struct {
	sink
	kept     *keptBody
	expected int // bytes, where that is known
}

func (t *keeper) add(piece []byte, last bool) error {
	if !t.kept.over {
		t.kept.add(piece, t.expected)
	}
	if last {
		t.kept.ended.Store(true)
	}
	return t.sink.add(piece, last)
}

func (t *keeper) end(trailers *http1.Fields) error {
	t.kept.ended.Store(true)
	return t.sink.end(trailers)
}

// keep is the sink for a body on its way upstream: one that keeps it, where it may be
// wanted again and is not known to be too large. What is sent again has a length, which
// transfer codings exclude.
func (x *exchange) keep(to sink) sink {
	if x.tunnel || x.req.Codings != "" || x.copies == nil && x.plan.Route.Forward.Retry == nil || x.req.Framing == http1.Length && x.req.Length > maxKept {
		return to
	}
	x.kept.pool = &x.h.buffers
	x.keeper = keeper{to, &x.kept, int(x.req.Length)}
	return &x.keeper
}

// canReplay reports whether the request can be sent again: it has no body, a small one,
// or one that has come as a whole and was kept.
func (x *exchange) canReplay() bool {
	return x.replayable || x.upload.active.Load() && x.kept.whole() && x.reqBody.trailers().Len() == 0
}

// rewind prepares a request that canReplay for another attempt: what was kept of its
// body is sent at once. The attempt before is over, and its upload with it.
func (x *exchange) rewind() {
	if x.replayable {
		return
	}
	x.upload.reset()
	x.small, x.replayable = x.kept.body, true
	x.req.Framing, x.req.Length = http1.Length, int64(len(x.small))
	x.req.Fields.RemoveKnown(http1.Trailer)
	x.sendCopies(x.small)
	if t := x.timeouts.Response; t > 0 && x.limit.Load() == 0 {
		x.limit.Store(int64(x.h.now() + t))
	}
}
