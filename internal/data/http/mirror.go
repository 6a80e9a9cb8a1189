package http

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// mirrorTimeout bounds a mirrored request. It is not longer where the route's timeout is:
// what is mirrored is not judged again when the policy changes.
const mirrorTimeout = 15 * time.Second

// mirrors are the mirrored requests under way: as many as there is room for, and none
// after close.
type mirrors struct {
	mu     sync.Mutex
	room   int
	closed bool
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	answered, failed, leftOut atomic.Uint64
}

// Mirrored counts what became of mirrored requests.
func (h *Handler) Mirrored() record.MirrorState {
	m := &h.mirrors
	return record.MirrorState{Answered: m.answered.Load(), Failed: m.failed.Load(), LeftOut: m.leftOut.Load()}
}

func (m *mirrors) init(room int) {
	m.room = room
	m.ctx, m.cancel = context.WithCancel(context.Background())
}

// start runs f in a goroutine of its own, or returns false where there is no room.
func (m *mirrors) start(f func(context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.room == 0 {
		return false
	}
	m.room--
	m.done.Go(func() {
		f(m.ctx)
		m.mu.Lock()
		m.room++
		m.mu.Unlock()
	})
	return true
}

func (m *mirrors) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.done.Wait()
}

// mirror chooses where copies of the request go. They are sent when its body is
// complete. Nobody waits for them, and what becomes of them does not matter to the
// request. Tunnels are not mirrored, nor are bodies with transfer codings.
func (x *exchange) mirror(policies []resource.Mirror) {
	if x.tunnel || x.req.Codings != "" {
		return
	}
	for i := range policies {
		if policies[i].Share.Hit(rand.Uint32()) {
			x.copies = append(x.copies, &policies[i])
		}
	}
	if x.replayable {
		x.sendCopies(x.small)
	}
}

// sendCopies starts the copies. They share no memory with the exchange.
func (x *exchange) sendCopies(body []byte) {
	for _, m := range x.copies {
		cluster, _, why, _ := decide.Upstream(x.cfg, &resource.WeightedCluster{Name: m.Cluster})
		if why != "" {
			x.h.mirrors.leftOut.Add(1)
			x.h.log.Debug("request not mirrored", "cluster", m.Cluster, "reason", string(why))
			continue
		}
		y := x.copyFor(m, cluster, body)
		if !x.h.mirrors.start(y.runMirror) {
			x.h.mirrors.leftOut.Add(1)
			x.h.log.Debug("request not mirrored: too many are under way", "cluster", m.Cluster)
		}
	}
	x.copies = nil
}

// copyFor makes an exchange that sends the request as it goes upstream once more. It
// shares no memory with x.
func (x *exchange) copyFor(m *resource.Mirror, cluster *config.Cluster, body []byte) *exchange {
	y := &exchange{h: x.h, cfg: x.cfg, cplan: x.cplan, hcm: x.hcm, client: nobody{}, patience: new(patience)}
	info := x.c.Info
	info.SNI, info.Binding.Name = strings.Clone(info.SNI), strings.Clone(info.Binding.Name)
	y.c = &Conn{Info: info, Plan: func() (*config.Config, decide.ConnPlan) { return y.cfg, y.cplan }}
	y.begin(x.h, x.entry.Protocol)
	y.req = http1.Request{Method: strings.Clone(x.req.Method), TETrailers: x.req.TETrailers}
	if len(body) > 0 {
		y.req.Framing, y.req.Length = http1.Length, int64(len(body))
	}
	for name, value := range x.req.Fields.All {
		if name != "trailer" {
			y.req.Fields.Add(strings.Clone(name), strings.Clone(value))
		}
	}
	y.path = strings.Clone(x.path)
	y.authority = strings.Clone(x.authority)
	y.small, y.replayable = append([]byte(nil), body...), true
	y.weighted, y.cluster = &resource.WeightedCluster{Name: m.Cluster}, cluster
	y.plan = decide.RoutePlan{Verdict: decide.Forward, VirtualHost: x.plan.VirtualHost,
		Route: &resource.Route{Forward: &resource.Forward{Clusters: []resource.WeightedCluster{*y.weighted}}}}
	y.timeouts.Response = mirrorTimeout
	if t := x.timeouts.Response; t > 0 {
		y.timeouts.Response = min(t, mirrorTimeout)
	}
	y.target = y.targetOf() // by the name without suffix: it is what is resolved, and verified
	y.target.ALPN = alpnOf(y.speaks())
	y.target.Hash, y.target.HasHash = x.target.Hash, x.target.HasHash
	y.authority = decide.ShadowAuthority(m, y.authority)
	return y
}

// runMirror sends the copy and throws the response away. ctx ends with the handler.
func (y *exchange) runMirror(ctx context.Context) {
	var w watch
	w.now, w.down, w.onCheck = y.h.now, noDeadline{}, y.check
	w.armed.Store(never)
	defer w.stop()
	stop := context.AfterFunc(ctx, func() { w.interrupt(causeDrain) })
	defer stop()
	y.watch = &w
	y.limit.Store(int64(y.h.now() + y.timeouts.Response))
	y.attempt = 1
	f := y.try()
	for range maxStales {
		if f.kind != staleKind {
			break
		}
		f = y.try()
	}
	if f.kind == answeredKind {
		y.download.start(y.respBody, discarded{}, &y.moved, &y.h.pipes)
		y.broken = y.download.run() != nil
	}
	if !w.clear() {
		y.broken = true
	}
	if f.kind == answeredKind && !y.broken {
		y.h.mirrors.answered.Add(1)
	} else {
		y.h.mirrors.failed.Add(1)
	}
	y.releaseUpstream()
	y.h.log.Debug("request mirrored", "cluster", y.weighted.Name, "status", y.resp.Status, "reason", string(f.reason))
}

// nobody is the client of a mirrored request.
type nobody struct{}

var errNobody = errors.New("a mirrored request has no client")

func (nobody) readRequest(*exchange) error     { return errNobody }
func (nobody) interim(*exchange) error         { return nil }
func (nobody) begin(*exchange) sink            { return discarded{} }
func (nobody) tunnel(x *exchange) (body, sink) { return &x.reqRaw, discarded{} }
func (nobody) gone() bool                      { return false }
func (nobody) reset() bool                     { return false }
func (nobody) breakOff(*exchange)              {}

// discarded is where the response to a mirrored request goes.
type discarded struct{}

func (discarded) add([]byte, bool) error  { return nil }
func (discarded) flush() error            { return nil }
func (discarded) end(*http1.Fields) error { return nil }

// noDeadline is a client's side that never waits.
type noDeadline struct{}

func (noDeadline) SetDeadline(time.Time) error { return nil }
