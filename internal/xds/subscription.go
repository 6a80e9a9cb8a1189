package xds

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
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
	// due says of a phase that there may be something to say: the resources or what the
	// client wants or has changed since nothing was left. An ACK alone changes nothing.
	due     [phases]bool
	claimed string // the version that a state-of-the-world client brought along

	seq               uint64 // of the last response; 0: none on this stream
	version, accepted string
	nack              *Nack
	nackSeq           uint64
}

func newSubscription(typeURL string, delta bool) *subscription {
	return &subscription{
		typeURL: typeURL, delta: delta,
		names: map[string]struct{}{}, held: map[string]holding{},
		due: [phases]bool{true, true},
	}
}

// review makes both phases look at all resources again.
func (s *subscription) review() { s.due = [phases]bool{true, true} }

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
	if !s.delta || r.refused || len(r.subscribe)+len(r.unsubscribe) > 0 {
		s.review()
	}
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
		s.wildcard = legacyWildcard(s.typeURL)
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
		delete(s.names, n)
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
		s.names[n] = struct{}{}
		s.doubt(n)
	}
}

// doubt makes a resource be sent, or its absence be told, whatever was sent before.
func (s *subscription) doubt(name string) {
	h := s.held[name]
	h.version = unknownVersion
	s.held[name] = h
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

// settle notes an ACK or NACK of the response seq.
func (s *subscription) settle(seq uint64, version string, r *request) {
	state := ackAccepted
	if r.refused {
		state = ackRefused
	}
	remain := false
	for n, h := range s.held {
		if h.seq == seq && seq != 0 {
			h.state = state
			s.held[n] = h
			if !s.wants(n) {
				delete(s.held, n)
				continue
			}
		}
		remain = remain || h.state == ackRefused
	}
	switch {
	case r.refused:
		s.nack = &Nack{TypeURL: s.typeURL, Version: version, Message: truncate(r.problem, maxMessage)}
		s.nackSeq = seq
	default:
		s.accepted = version
		if seq > s.nackSeq && !remain {
			s.nack = nil
		}
	}
}

// wanted is the part of current that the client subscribed to.
func (s *subscription) wanted(current map[string]Resource) iter.Seq[Resource] {
	if s.wildcard {
		return maps.Values(current)
	}
	return func(yield func(Resource) bool) {
		for n := range s.names {
			if r, ok := current[n]; ok && !yield(r) {
				return
			}
		}
	}
}

// difference is what the client lacks and what it has too much, sorted by name. What
// it refused is sent again together with the next change, for with a NACK it
// may have thrown away the good resources of that response too.
func (s *subscription) difference(current map[string]Resource) (changed []Resource, removed []string) {
	var refused []Resource
	for r := range s.wanted(current) {
		h, ok := s.held[r.Name]
		switch {
		case !ok || h.version != r.Version:
			changed = append(changed, r)
		case h.state == ackRefused:
			refused = append(refused, r)
		}
	}
	if len(changed) > 0 {
		changed = append(changed, refused...)
	}
	for n, h := range s.held {
		if _, ok := current[n]; !ok && h.version != "" && s.wants(n) {
			removed = append(removed, n)
		}
	}
	slices.SortFunc(changed, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(removed)
	return changed, removed
}

// take is the next response of the phase, or nil when there is nothing to say. What it
// returns counts as sent. old is what current replaced; generation is the version of
// delta responses; limit bounds the bytes of one response where the form allows it.
// changed are the names of resources that the client did not have like that.
func (s *subscription) take(current, old map[string]Resource, p phase, generation string, limit int) (out *response, changed []string) {
	if !s.due[p] {
		return nil, nil
	}
	s.due[p] = false
	if s.isClaimed(current) {
		return nil, nil
	}
	news, gone := s.difference(current)
	var lingering []Resource
	switch {
	case !removedLate(s.typeURL) && p == phaseRemove:
		return nil, nil
	case removedLate(s.typeURL) && p == phaseRemove:
		news = nil
	case removedLate(s.typeURL):
		s.due[phaseRemove] = s.due[phaseRemove] && len(gone) > 0
		for _, n := range gone {
			if r, ok := old[n]; ok && s.held[n].version != unknownVersion {
				lingering = append(lingering, r)
			}
		}
		gone = nil
	}
	first := !s.answered && p == phaseUpdate && (s.wildcard || !s.delta && fullState(s.typeURL))
	if len(news) == 0 && len(gone) == 0 && !first {
		return nil, nil
	}
	out = &response{typeURL: s.typeURL, version: generation}
	if s.delta || !fullState(s.typeURL) {
		if fit := fitting(news, limit); fit < len(news) {
			news, gone = news[:fit], nil
			s.due[p] = true // for the rest
		}
		out.resources, out.removed = news, gone
	} else {
		out.resources = append(slices.Collect(s.wanted(current)), lingering...)
		slices.SortFunc(out.resources, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	}
	if !s.delta {
		out.removed = nil
		if len(out.resources) == 0 && !fullState(s.typeURL) {
			s.mark(nil, current, gone, 0) // only removals: this form cannot tell them
			return nil, nil
		}
		if fullState(s.typeURL) {
			out.version = setVersion(out.resources)
		}
	}
	s.seq++
	s.mark(out.resources, current, gone, s.seq)
	out.nonce = makeNonce(out.version, s.seq)
	s.version, s.answered = out.version, true
	for _, r := range news {
		changed = append(changed, r.Name)
	}
	return out, changed
}

// mark notes that the client is about to get a response.
func (s *subscription) mark(sent []Resource, current map[string]Resource, gone []string, seq uint64) {
	for _, r := range sent {
		if _, ok := current[r.Name]; ok {
			s.held[r.Name] = holding{version: r.Version, seq: seq}
		}
	}
	for _, n := range gone {
		if _, named := s.names[n]; named {
			s.held[n] = holding{seq: seq}
		} else {
			delete(s.held, n)
		}
	}
}

// isClaimed reports whether a state-of-the-world client brought along, from an earlier
// stream, exactly what it would be sent; then nothing is. A version tells that only
// for types whose responses are complete.
func (s *subscription) isClaimed(current map[string]Resource) bool {
	claimed := s.claimed
	s.claimed = ""
	if s.delta || s.answered || claimed == "" || !fullState(s.typeURL) {
		return false
	}
	wanted := slices.Collect(s.wanted(current))
	if len(wanted) == 0 || setVersion(wanted) != claimed {
		return false
	}
	for _, r := range wanted {
		s.held[r.Name] = holding{version: r.Version, state: ackAccepted}
	}
	s.answered, s.accepted = true, claimed
	return true
}

// fitting is how many of the resources go into a response of limit bytes; at least one.
func fitting(resources []Resource, limit int) int {
	size := 0
	for i, r := range resources {
		size += len(r.Body.GetValue()) + len(r.Name) + len(r.Version) + 128
		if size > limit && i > 0 {
			return i
		}
	}
	return len(resources)
}

// A nonce is "version/sequence", so that a NACK of any earlier response still tells
// which version was refused, with nothing kept for it.
func makeNonce(version string, seq uint64) string {
	return version + "/" + strconv.FormatUint(seq, 10)
}

func parseNonce(nonce string) (seq uint64, version string, ok bool) {
	version, digits, ok := cutLast(nonce, "/")
	if !ok {
		return 0, "", false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, version, err == nil && seq > 0
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// maxMessage bounds the text of an error that is sent or kept, in bytes.
const maxMessage = 8 << 10

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
