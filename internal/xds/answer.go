package xds

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// wanted is the part of the content that the client subscribed to.
func (s *subscription) wanted(now typeState) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		all := now.all()
		if s.wildcard {
			for _, r := range all {
				if !yield(r) {
					return
				}
			}
		}
		for n := range s.held.names() {
			if _, ok := all[n]; ok && s.wildcard {
				continue
			}
			if r, ok := now.find(n); ok && !yield(r) {
				return
			}
		}
	}
}

// find is one resource, where the client wants it.
func (s *subscription) find(now typeState, k nameKey) (Resource, bool) {
	if s.held.has(k) {
		return now.find(k.Value())
	}
	if !s.wildcard {
		return Resource{}, false
	}
	r, ok := now.all()[k.Value()]
	return r, ok
}

// lack is what the client lacks and what it has too much, sorted by name. What
// it refused is sent again together with the next change, for with a NACK it
// may have thrown away the good resources of that response too.
func (s *subscription) lack(now typeState) (changed []Resource, removed []string) {
	look := func(k nameKey) {
		r, ok := s.find(now, k)
		h, had := s.held.get(k)
		switch {
		case ok && (!had || h.version != versionOf(r.Version)):
			if changed == nil && s.every {
				changed = make([]Resource, 0, s.held.records.used)
			}
			changed = append(changed, r)
		case !ok && had && h.version != noVersion && s.wants(k) && !now.awaits(k.Value()):
			removed = append(removed, k.Value())
		}
	}
	if s.every {
		for r := range s.held.records.all() {
			look(r.name)
		}
		if s.wildcard {
			for name, r := range now.all() {
				if s.held.records.get(keyOf(name)) == (record{}) {
					changed = append(changed, r)
				}
			}
		}
	} else {
		for k := range s.look {
			look(k)
		}
	}
	if len(changed) > 0 {
		for k := range s.bad {
			h, _ := s.held.get(k)
			if r, ok := s.find(now, k); ok && h.state == ackRefused && h.version == versionOf(r.Version) {
				changed = append(changed, r)
			}
		}
	}
	slices.SortFunc(changed, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(removed)
	return changed, removed
}

// take is the next response of the phase, or nil when there is nothing to say, or the client
// must answer first: the phase stays due then. What it returns counts as sent. old is the
// content before; generation is the version of delta responses; limit bounds the bytes of
// one response where the form allows it. changed are the resources that the client did not
// have like that.
func (s *subscription) take(now, old typeState, p phase, generation string, limit int) (out *response, changed []Resource) {
	if !s.due[p] {
		return nil, nil
	}
	s.due[p] = false
	defer s.rest()
	if s.isClaimed(now) {
		return nil, nil
	}
	news, gone := s.lack(now)
	var lingering []Resource
	switch {
	case !removedLate(s.typeURL) && p == phaseRemove:
		return nil, nil
	case removedLate(s.typeURL) && p == phaseRemove:
		news = nil
	case removedLate(s.typeURL):
		s.due[phaseRemove] = s.due[phaseRemove] && len(gone) > 0
		lingering = s.lingering(gone, old)
		gone = nil
	}
	first := !s.answered && p == phaseUpdate && (s.wildcard || !s.delta && fullState(s.typeURL))
	if len(news) == 0 && len(gone) == 0 && !first {
		return nil, nil
	}
	if s.inFlight() >= window {
		s.due[p] = true
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
		out.resources = append(slices.Collect(s.wanted(now)), lingering...)
		slices.SortFunc(out.resources, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	}
	if !s.delta {
		out.removed = nil
		if len(out.resources) == 0 && !fullState(s.typeURL) {
			s.mark(nil, nil, gone, 0) // only removals: this form cannot tell them
			return nil, nil
		}
		if fullState(s.typeURL) {
			out.version = setVersion(out.resources)
		}
	}
	s.seq++
	s.mark(out.resources, lingering, gone, s.seq)
	out.nonce = makeNonce(out.version, s.seq)
	s.version, s.answered = out.version, true
	return out, news
}

// lingering are the resources that are gone, as they were: of a type that others may
// still refer to, a state-of-the-world response has them until the end of the push.
func (s *subscription) lingering(gone []string, old typeState) []Resource {
	if s.delta {
		return nil
	}
	var out []Resource
	for _, n := range gone {
		if h, _ := s.held.get(keyOf(n)); h.version == unknownVersion {
			continue
		}
		if r, ok := old.find(n); ok {
			out = append(out, r)
		}
	}
	return out
}

// rest forgets what was to be looked at, when no phase is due.
func (s *subscription) rest() {
	if !s.isDue() {
		s.every = false
		clear(s.look)
	}
}

// mark notes that the client is about to get a response; what only lingers does not count.
func (s *subscription) mark(sent, lingering []Resource, gone []string, seq uint64) {
	f := flight{seq: seq, bytes: size(sent) + len(gone)}
	for _, r := range sent {
		if slices.ContainsFunc(lingering, func(l Resource) bool { return l.Name == r.Name }) {
			continue
		}
		k := keyOf(r.Name)
		s.held.set(k, holding{version: versionOf(r.Version), seq: seq})
		f.names = append(f.names, k)
	}
	for _, n := range gone {
		if k := keyOf(n); s.held.has(k) {
			s.held.set(k, holding{seq: seq})
			f.names = append(f.names, k)
		} else {
			s.held.forget(k)
		}
	}
	if seq != 0 {
		s.flight = append(s.flight, f)
	}
}

// isClaimed reports whether a state-of-the-world client brought along, from an earlier
// stream, exactly what it would be sent; then nothing is. A version tells that only
// for types whose responses are complete.
func (s *subscription) isClaimed(now typeState) bool {
	claimed := s.claimed
	s.claimed = ""
	if s.delta || s.answered || claimed == "" || !fullState(s.typeURL) {
		return false
	}
	wanted := slices.Collect(s.wanted(now))
	if len(wanted) == 0 || setVersion(wanted) != claimed {
		return false
	}
	for _, r := range wanted {
		s.held.set(keyOf(r.Name), holding{version: versionOf(r.Version), state: ackAccepted})
	}
	s.answered, s.accepted = true, claimed
	return true
}

// sizeOf is about what a resource takes in a response, in bytes.
func sizeOf(r Resource) int { return len(r.Body.GetValue()) + len(r.Name) + len(r.Version) + 128 }

func size(resources []Resource) int {
	n := 0
	for _, r := range resources {
		n += sizeOf(r)
	}
	return n
}

// fitting is how many of the resources go into a response of limit bytes; at least one.
func fitting(resources []Resource, limit int) int {
	n := 0
	for i, r := range resources {
		if n += sizeOf(r); n > limit && i > 0 {
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
