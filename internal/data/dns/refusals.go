package dns

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Bounds of what is written about refusals.
const (
	refusalEvery  = 10 * time.Second // per name and reason
	refusalNames  = 1024             // remembered
	refusalBurst  = 100              // records at once, over all names
	refusalRefill = 20               // records per second, over all names
)

// refusals writes refused queries to the recorder: the first of each name and reason
// at once, then at most one in refusalEvery with the count of those between, and at
// most refusalRefill per second of all names together.
type refusals struct {
	recorder Recorder
	clock    func() time.Time

	unwritten atomic.Uint64

	mu     sync.Mutex
	byName map[refusalKey]*list.Element
	recent *list.List // of *refusal, most recent first
	tokens float64
	filled time.Time
	missed uint64 // refusals of names for which there was no token, since the last record
}

type refusalKey struct {
	name   string
	reason reason.Reason
}

type refusal struct {
	key     refusalKey
	written time.Time
	since   uint64 // not written since
}

// query is what is recorded of one question.
type query struct {
	name   string // canonical
	qtype  string
	client netip.AddrPort
	local  netip.AddrPort
}

func newRefusals(r Recorder, clock func() time.Time) *refusals {
	return &refusals{
		recorder: r, clock: clock, byName: map[refusalKey]*list.Element{},
		recent: list.New(), tokens: refusalBurst, filled: clock(),
	}
}

// record tells one refusal, or counts it.
func (r *refusals) record(q query, why reason.Reason, detail string, logs []resource.AccessLog) {
	now := r.clock()
	more, missed, ok := r.admit(refusalKey{q.name, why}, now)
	if !ok {
		r.unwritten.Add(1)
		return
	}
	if r.recorder == nil {
		return
	}
	if more > 0 {
		detail += fmt.Sprintf(" (asked %d times more since the last record)", more)
	}
	if missed > 0 {
		detail += fmt.Sprintf(" (%d refusals of other names were not written)", missed)
	}
	r.recorder.Record(&record.Entry{
		Start: now, Protocol: record.ProtocolDNS, Method: q.qtype, Authority: q.name, Host: q.name,
		Reason: why, Detail: detail, DownstreamRemote: q.client, DownstreamLocal: q.local,
	}, logs)
}

// admit decides whether a refusal is written; more and missed are the counts to tell.
func (r *refusals) admit(key refusalKey, now time.Time) (more, missed uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = min(r.tokens+now.Sub(r.filled).Seconds()*refusalRefill, refusalBurst)
	r.filled = now
	if e := r.byName[key]; e != nil {
		r.recent.MoveToFront(e)
		f := e.Value.(*refusal)
		if now.Sub(f.written) < refusalEvery || r.tokens < 1 {
			f.since++
			return 0, 0, false
		}
		more = f.since
		f.written, f.since = now, 0
	} else {
		if r.tokens < 1 {
			r.missed++
			return 0, 0, false
		}
		if r.recent.Len() >= refusalNames {
			old := r.recent.Remove(r.recent.Back()).(*refusal)
			delete(r.byName, old.key)
		}
		r.byName[key] = r.recent.PushFront(&refusal{key: key, written: now})
	}
	r.tokens--
	missed, r.missed = r.missed, 0
	return more, missed, true
}
