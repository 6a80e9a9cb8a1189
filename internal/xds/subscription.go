package xds

import (
	"maps"
	"slices"
)

// phase of a push: everything that is new or changed is sent before anything that
// others may still refer to is removed.
type phase uint8

const (
	phaseUpdate phase = iota
	phaseRemove
	phases // their number
)

// ackState of a resource at the client.
type ackState uint8

const (
	ackPending ackState = iota
	ackAccepted
	ackRefused
)

// holding is what the client has of one resource, as far as the server knows.
type holding struct {
	version versionKey
	seq     uint64 // the response that carried it; 0: the client brought it along
	state   ackState
}

// settled reports whether no answer is due.
func (h holding) settled() bool { return h.state != ackPending || h.seq == 0 }

// subscription is what one client wants of one type, and what it has. It is the one
// model behind both forms of the protocol. It is pure; its stream guards it.
type subscription struct {
	typeURL  string
	delta    bool
	wildcard bool
	named    bool // names, or "*", were given once: an empty list no longer means all
	held     *holdings
	answered bool
	// due says of a phase that there may be something to say: about the names to look at, or
	// about every one. An ACK alone changes nothing.
	due     [phases]bool
	every   bool
	look    map[nameKey]struct{}
	claimed string // the version that a state-of-the-world client brought along
	// viewed: the stream's view was told of the names, but for those added and dropped since.
	viewed         bool
	added, dropped []string

	flight []flight             // responses without an answer, oldest first
	bad    map[nameKey]struct{} // names that were refused

	seq               uint64 // of the last response; 0: none on this stream
	version, accepted string
	nack              *Nack
	nackSeq           uint64
}

func newSubscription(typeURL string, delta bool) *subscription {
	return &subscription{
		typeURL: typeURL, delta: delta,
		held: newHoldings(),
		look: map[nameKey]struct{}{}, bad: map[nameKey]struct{}{},
		due: [phases]bool{true, true}, every: true,
	}
}

// flight is a response that was sent and not answered.
type flight struct {
	seq   uint64
	names []nameKey
	bytes int
}

// inFlight is the size of what was not answered, in bytes.
func (s *subscription) inFlight() int {
	n := 0
	for _, f := range s.flight {
		n += f.bytes
	}
	return n
}

func (s *subscription) isDue() bool { return s.due[phaseUpdate] || s.due[phaseRemove] }

// review makes both phases look at all resources again.
func (s *subscription) review() {
	s.due, s.every = [phases]bool{true, true}, true
	clear(s.look)
}

// reviewNames makes both phases look at these, where the client wants them.
func (s *subscription) reviewNames(names []string) {
	if s.every {
		if len(names) > 0 {
			s.due = [phases]bool{true, true}
		}
		return
	}
	for _, n := range names {
		s.reviewName(keyOf(n))
	}
}

func (s *subscription) reviewName(k nameKey) {
	if !s.wants(k) {
		return
	}
	s.due = [phases]bool{true, true}
	if !s.every {
		s.look[k] = struct{}{}
	}
}

// open takes the first request of the type on a stream.
func (s *subscription) open(r *request) {
	if s.delta {
		if len(r.subscribe) == 0 && legacyWildcard(s.typeURL) {
			s.wildcard = true
		}
		s.change(r.subscribe, nil)
		for name, version := range r.initial {
			if k := keyOf(name); s.wants(k) {
				s.held.set(k, holding{version: versionOf(version), state: ackAccepted})
			}
		}
		return
	}
	s.claimed = r.version
	s.replace(r.names)
}

// next takes a later request. A state-of-the-world request that answers an older response
// is not answered, for the client will answer the newer one too; but what it
// no longer names is forgotten, so that it is sent when a later one names it again.
func (s *subscription) next(r *request) {
	seq, version, ok := parseNonce(r.nonce)
	ok = ok && seq <= s.seq
	switch {
	case s.delta:
		s.change(r.subscribe, r.unsubscribe)
	case ok && seq == s.seq || r.nonce == "" && s.seq == 0:
		s.replace(r.names)
	default:
		s.shrink(r.names)
	}
	if ok {
		s.settle(seq, version, r)
	}
}

// replace sets the names, as a state-of-the-world request does.
func (s *subscription) replace(names []string) {
	if len(names) == 0 && !s.named {
		if wildcard := legacyWildcard(s.typeURL); wildcard != s.wildcard {
			s.wildcard = wildcard
			s.review()
		}
		return
	}
	s.shrink(names)
	s.change(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return s.held.has(keyOf(n)) }), nil)
}

// shrink drops what is not among the names, and adds nothing.
func (s *subscription) shrink(names []string) {
	if len(names) == 0 && !s.named {
		return
	}
	want := make(map[string]struct{}, len(names))
	for _, n := range names {
		want[n] = struct{}{}
	}
	var drop []string
	for n := range s.held.names() {
		if _, ok := want[n]; !ok {
			drop = append(drop, n)
		}
	}
	_, star := want[wildcardName]
	s.named, s.wildcard = true, s.wildcard && star
	s.change(nil, drop)
	s.prune()
}

// change adds and drops names, as a delta request does. A name that is subscribed to
// again is sent again, and one that is unsubscribed under a wildcard too: the client
// may have forgotten it (xDS protocol, "Unsubscribing from resources").
func (s *subscription) change(subscribe, unsubscribe []string) {
	if slices.Contains(subscribe, wildcardName) {
		s.widen()
	}
	for _, n := range unsubscribe {
		if n == wildcardName {
			s.wildcard = false
			s.prune()
			continue
		}
		k := keyOf(n)
		if s.held.drop(k) && s.viewed {
			s.dropped = append(s.dropped, n)
		}
		if s.wildcard {
			s.doubt(k)
		} else if h, _ := s.held.get(k); h.settled() {
			s.held.forget(k)
		}
	}
	s.held.expect(len(subscribe))
	for _, n := range subscribe {
		s.named = true
		if n == wildcardName {
			continue
		}
		k := keyOf(n)
		if s.held.add(k) && s.viewed {
			s.added = append(s.added, k.Value())
		}
		s.doubt(k)
	}
}

// doubt makes a resource be sent, or its absence be told, whatever was sent before.
func (s *subscription) doubt(k nameKey) {
	h, _ := s.held.get(k)
	h.version = unknownVersion
	s.held.set(k, h)
	s.reviewName(k)
}

// widen subscribes to everything. What was on its way when it was dropped is sent again:
// the client may have taken it or not.
func (s *subscription) widen() {
	if s.wildcard {
		return
	}
	for k := range maps.Collect(s.held.all()) {
		if !s.wants(k) {
			s.doubt(k)
		}
	}
	s.wildcard, s.answered = true, false
	s.review()
}

func (s *subscription) wants(k nameKey) bool {
	return s.wildcard || s.held.has(k)
}

// prune forgets what is no longer wanted. What is on its way is remembered until it is
// answered: if the client wants everything before that, it keeps it.
func (s *subscription) prune() {
	s.held.forgetIf(func(k nameKey, h holding) bool { return !s.wants(k) && h.settled() })
}

// settle notes an ACK or NACK of the response seq. The responses before it are not
// waited for any longer.
func (s *subscription) settle(seq uint64, version string, r *request) {
	var names []nameKey
	s.flight = slices.DeleteFunc(s.flight, func(f flight) bool {
		if f.seq == seq {
			names = f.names
		}
		return f.seq <= seq
	})
	for _, n := range names {
		h, ok := s.held.get(n)
		if !ok || h.seq != seq {
			continue
		}
		if h.state = ackAccepted; r.refused {
			h.state = ackRefused
			s.bad[n] = struct{}{}
		} else {
			delete(s.bad, n)
		}
		s.held.set(n, h)
		if !s.wants(n) {
			s.held.forget(n)
		}
	}
	switch {
	case r.refused:
		s.nack = &Nack{TypeURL: s.typeURL, Version: version, Message: truncate(r.problem, maxMessage)}
		s.nackSeq = seq
	default:
		s.accepted = version
		if seq > s.nackSeq && !s.remains() {
			s.nack = nil
		}
	}
}

// remains says whether something that was refused is still the last that was sent of it.
func (s *subscription) remains() bool {
	maps.DeleteFunc(s.bad, func(k nameKey, _ struct{}) bool { return !s.isRefused(k) })
	return len(s.bad) > 0
}

// isRefused says whether the client refused what it was sent last of a resource.
func (s *subscription) isRefused(k nameKey) bool {
	h, _ := s.held.get(k)
	return h.state == ackRefused
}
