package config

import (
	"cmp"
	"container/list"
	"fmt"
	"time"
)

// Limits bound what is asked for by name, whatever the workload calls. Zero means the
// default.
type Limits struct {
	// Held bounds the resources of one kind that are kept; the least recently used makes
	// room. Default 4096.
	Held int
	// Unknown bounds the names of one kind that are remembered because they do not exist.
	// Default 4096.
	Unknown int
	// InFlight bounds the questions that are not answered yet, Rate how many may be asked
	// per second in the long run, and Burst at once; whoever has time waits for his turn.
	// Default 256, 100 and 512.
	InFlight, Rate, Burst int
	// Timeout is how long a question is waited for. Default 5 s.
	Timeout time.Duration
}

func (l Limits) withDefaults() Limits {
	l.Held, l.Unknown = cmp.Or(l.Held, 4096), cmp.Or(l.Unknown, 4096)
	l.InFlight, l.Rate, l.Burst = cmp.Or(l.InFlight, 256), cmp.Or(l.Rate, 100), cmp.Or(l.Burst, 512)
	l.Timeout = cmp.Or(l.Timeout, 5*time.Second)
	return l
}

// OnDemandStats are totals since the start, but for Held, Unknown and InFlight.
type OnDemandStats struct {
	Asked   uint64 // questions to the control plane
	Evicted uint64 // held resources that made room
	Limited uint64 // questions that were not asked because of a limit
	// Held, Unknown and InFlight are how many there are now.
	Held, Unknown, InFlight int
}

// inquiry is one resource that was asked for by name, from the question on. It is in one
// of the lists of its demand.
type inquiry struct {
	need     Need
	in       *list.List
	place    *list.Element
	since    time.Time
	waiters  int
	awaited  bool          // by who did not wait: the answer may change what was decided
	done     chan struct{} // closed when the answer is published
	answered bool
	outcome  Outcome // Found, Absent or Refused, when answered
	detail   string

	held     *Held    // nil: no good version yet
	use      *use     // of all versions
	clusters []string // that the last good version refers to
	waiting  bool     // for these clusters
}

// demand is the table of what was asked for by name. It is pure bookkeeping; its Store
// guards it.
type demand struct {
	limits Limits
	now    func() time.Time
	all    map[Need]*inquiry
	flying list.List // not answered, oldest first
	// Of each kind, most recently used first.
	held, unknown [needKinds]list.List
	tokens        float64
	filled        time.Time
	stats         OnDemandStats
}

func newDemand(l Limits, now func() time.Time) *demand {
	l = l.withDefaults()
	return &demand{limits: l, now: now, all: map[Need]*inquiry{}, tokens: float64(l.Burst), filled: now()}
}

// admit makes room for one more question and adds it. dropped are inquiries that are
// over: they made room. Where there is none why says so.
func (d *demand) admit(n Need) (q *inquiry, dropped []*inquiry, why string) {
	now := d.now()
	d.tokens = min(float64(d.limits.Burst), d.tokens+now.Sub(d.filled).Seconds()*float64(d.limits.Rate))
	d.filled = now
	if d.tokens < 1 {
		d.stats.Limited++
		return nil, nil, fmt.Sprintf("more than %d names per second are new to the proxy", d.limits.Rate)
	}
	if d.flying.Len() >= d.limits.InFlight {
		oldest := d.flying.Front().Value.(*inquiry)
		if oldest.waiters > 0 || now.Sub(oldest.since) < d.limits.Timeout {
			d.stats.Limited++
			return nil, nil, fmt.Sprintf("the control plane has not answered for %d other names", d.limits.InFlight)
		}
		dropped = append(dropped, oldest)
		d.drop(oldest)
	}
	if held := &d.held[n.Kind]; held.Len() >= d.limits.Held {
		victim := d.victim(held)
		if victim == nil {
			d.stats.Limited++
			return nil, dropped, fmt.Sprintf("all of the %d names that the proxy keeps are in use", d.limits.Held)
		}
		d.stats.Evicted++
		dropped = append(dropped, victim)
		d.drop(victim)
	}
	d.tokens--
	d.stats.Asked++
	q = &inquiry{need: n, since: now, done: make(chan struct{}), use: new(use)}
	d.all[n] = q
	d.move(q, &d.flying)
	return q, dropped, ""
}

// wait is how long it takes until one more question may be asked by the rate.
func (d *demand) wait() time.Duration {
	lacking := 1 - d.tokens - d.now().Sub(d.filled).Seconds()*float64(d.limits.Rate)
	if lacking <= 0 {
		return 0
	}
	return time.Duration(lacking/float64(d.limits.Rate)*float64(time.Second)) + 1
}

// victim is what was not used since it was looked at last; nil where all is pinned. A
// second turn finds what was used, too.
func (d *demand) victim(held *list.List) *inquiry {
	for range 2 * held.Len() {
		q := held.Back().Value.(*inquiry)
		if q.use.pins.Load() == 0 && !q.use.recently.Swap(false) {
			return q
		}
		held.MoveToFront(q.place)
	}
	return nil
}

// move puts an inquiry into a list. Questions go to the end, all else to the front.
func (d *demand) move(q *inquiry, to *list.List) {
	if q.in != nil {
		q.in.Remove(q.place)
	}
	q.in = to
	if to == &d.flying {
		q.place = to.PushBack(q)
	} else {
		q.place = to.PushFront(q)
	}
}

// drop forgets an inquiry.
func (d *demand) drop(q *inquiry) {
	q.in.Remove(q.place)
	delete(d.all, q.need)
}

// settle notes an answer, and returns what no longer has room among what is unknown.
func (d *demand) settle(q *inquiry, outcome Outcome, detail string) (dropped *inquiry) {
	q.answered, q.outcome, q.detail = true, outcome, detail
	if outcome == Found {
		d.move(q, &d.held[q.need.Kind])
		return nil
	}
	unknown := &d.unknown[q.need.Kind]
	d.move(q, unknown)
	if unknown.Len() <= d.limits.Unknown {
		return nil
	}
	dropped = unknown.Back().Value.(*inquiry)
	d.drop(dropped)
	return dropped
}

// answer is what an inquiry's outcome is. What is asked for again is remembered longer.
func (d *demand) answer(q *inquiry) Answer {
	if !q.answered {
		return Answer{Need: q.need}
	}
	if q.outcome != Found { // whoever uses what is found touches it
		q.in.MoveToFront(q.place)
	}
	return Answer{Need: q.need, Outcome: q.outcome, Detail: q.detail}
}

func (d *demand) totals() OnDemandStats {
	s := d.stats
	s.InFlight = d.flying.Len()
	for kind := range d.held {
		s.Held += d.held[kind].Len()
		s.Unknown += d.unknown[kind].Len()
	}
	return s
}
