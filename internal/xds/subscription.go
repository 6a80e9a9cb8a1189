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
	version string // "": the client was told that it does not exist
	seq     uint64 // the response that carried it; 0: the client brought it along
	state   ackState
}

// settled reports whether no answer is due.
func (h holding) settled() bool { return h.state != ackPending || h.seq == 0 }

// unknownVersion is never equal to a version: the resource is sent, or its removal told.
const unknownVersion = "\x00"

// subscription is what one client wants of one type, and what it has. It is the one
// model behind both forms of the protocol. It is pure; its stream guards it.
type subscription struct {
	typeURL  string
	delta    bool
	wildcard bool
	named    bool // names, or "*", were given once: an empty list no longer means all
	names    map[string]struct{}
	held     map[string]holding
	answered bool
	// due says of a phase that there may be something to say: about the names to look at, or
	// about every one. An ACK alone changes nothing.
	due     [phases]bool
	every   bool
	look    map[string]struct{}
	claimed string // the version that a state-of-the-world client brought along
	// added and dropped are names that the stream's view was not told of yet.
	added, dropped []string

	flight []flight            // responses without an answer, oldest first
	bad    map[string]struct{} // names that were refused

	seq               uint64 // of the last response; 0: none on this stream
	version, accepted string
	nack              *Nack
	nackSeq           uint64
}

func newSubscription(typeURL string, delta bool) *subscription {
	return &subscription{
		typeURL: typeURL, delta: delta,
		names: map[string]struct{}{}, held: map[string]holding{},
		look: map[string]struct{}{}, bad: map[string]struct{}{},
		due: [phases]bool{true, true}, every: true,
	}
}

// flight is a response that was sent and not answered.
type flight struct {
	seq   uint64
	names []string
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
		if s.wants(n) {
			s.look[n] = struct{}{}
			s.due = [phases]bool{true, true}
		}
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
			if s.wants(name) {
				s.held[name] = holding{version: version, state: ackAccepted}
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
	s.change(slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		_, ok := s.names[n]
		return ok
	}), nil)
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
	for n := range s.names {
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
		if _, ok := s.names[n]; ok {
			delete(s.names, n)
			s.dropped = append(s.dropped, n)
		}
		if s.wildcard {
			s.doubt(n)
		} else if s.held[n].settled() {
			delete(s.held, n)
		}
	}
	for _, n := range subscribe {
		s.named = true
		if n == wildcardName {
			continue
		}
		if _, ok := s.names[n]; !ok {
			s.names[n] = struct{}{}
			s.added = append(s.added, n)
		}
		s.doubt(n)
	}
}

// doubt makes a resource be sent, or its absence be told, whatever was sent before.
func (s *subscription) doubt(name string) {
	h := s.held[name]
	h.version = unknownVersion
	s.held[name] = h
	s.reviewNames([]string{name})
}

// widen subscribes to everything. What was on its way when it was dropped is sent again:
// the client may have taken it or not.
func (s *subscription) widen() {
	if s.wildcard {
		return
	}
	for n := range s.held {
		if !s.wants(n) {
			s.doubt(n)
		}
	}
	s.wildcard, s.answered = true, false
	s.review()
}

func (s *subscription) wants(name string) bool {
	_, ok := s.names[name]
	return ok || s.wildcard
}

// prune forgets what is no longer wanted. What is on its way is remembered until it is
// answered: if the client wants everything before that, it keeps it.
func (s *subscription) prune() {
	maps.DeleteFunc(s.held, func(n string, h holding) bool { return !s.wants(n) && h.settled() })
}

// size is a bound on the memory of what the client named, in bytes.
func (s *subscription) size() int {
	const overhead = 96
	n := 0
	for name := range s.names {
		n += len(name) + overhead
	}
	for name, h := range s.held {
		n += len(name) + len(h.version) + overhead
	}
	return n
}

// settle notes an ACK or NACK of the response seq. The responses before it are not
// waited for any longer.
func (s *subscription) settle(seq uint64, version string, r *request) {
	var names []string
	s.flight = slices.DeleteFunc(s.flight, func(f flight) bool {
		if f.seq == seq {
			names = f.names
		}
		return f.seq <= seq
	})
	for _, n := range names {
		h, ok := s.held[n]
		if !ok || h.seq != seq {
			continue
		}
		if h.state = ackAccepted; r.refused {
			h.state = ackRefused
			s.bad[n] = struct{}{}
		} else {
			delete(s.bad, n)
		}
		s.held[n] = h
		if !s.wants(n) {
			delete(s.held, n)
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
	maps.DeleteFunc(s.bad, func(n string, _ struct{}) bool { return s.held[n].state != ackRefused })
	return len(s.bad) > 0
}
