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
	body  []byte
	over  bool // it is larger than what is kept
	ended atomic.Bool
}

func (k *keptBody) reset() {
	k.body, k.over = scratch(k.body), false
	k.ended.Store(false)
}

// whole reports whether the body has ended and all of it is there.
func (k *keptBody) whole() bool { return k.ended.Load() && !k.over }

// keeper is a sink that keeps what goes through it, before it is sent.
type keeper struct {
	sink
	kept *keptBody
}

func (t *keeper) add(piece []byte, last bool) error {
	if k := t.kept; !k.over {
		if len(k.body)+len(piece) > maxKept {
			k.over, k.body = true, scratch(k.body)
		} else {
			k.body = append(k.body, piece...)
		}
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
// wanted again and is not known to be too large.
func (x *exchange) keep(to sink) sink {
	if x.tunnel || x.copies == nil && x.plan.Route.Forward.Retry == nil || x.req.Framing == http1.Length && x.req.Length > maxKept {
		return to
	}
	x.keeper = keeper{to, &x.kept}
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
