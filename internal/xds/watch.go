package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// interest is which resources of a type are wanted.
type interest struct {
	wildcard bool
	names    map[string]struct{}
}

func newInterest(names []string) interest {
	i := interest{wildcard: names == nil, names: map[string]struct{}{}}
	for _, n := range names {
		if n == wildcardName {
			i.wildcard = true
			continue
		}
		i.names[n] = struct{}{}
	}
	return i
}

func (i interest) has(name string) bool {
	_, ok := i.names[name]
	return ok || i.wildcard
}

func (i interest) empty() bool { return !i.wildcard && len(i.names) == 0 }

// ack is an answer to a response that is to be sent.
type ack struct {
	nonce   string
	version string // state of the world: accepted last
	refused bool
	problem string
}

// watch is one type at the client: what is wanted, what is there, and what this
// stream's server was told. It is the one model behind both forms of the protocol. It
// is pure; its client guards it.
type watch struct {
	typeURL string
	delta   bool
	wanted  interest
	// stale are the names that the server has to be told about. again are those of them
	// that it was told to send already, and must send once more.
	stale, again map[string]struct{}
	have         map[string]string // name -> version, as applied
	doomed       []string          // no longer subscribed to, and the handler does not know yet
	loose        []string          // of what is there, what may no longer be subscribed to
	rescan       bool              // that may be anything
	known        bool              // a wildcard's first answer has come

	// On this stream:
	started  bool
	named    bool // names were told, so that an empty list no longer means all
	told     interest
	nonce    string
	acks     []ack
	accepted string // version of the last response without an error; survives the stream
	partial  bool   // not all of that version was kept: do not claim it on a new stream
}

func newWatch(typeURL string, delta bool) *watch {
	return &watch{
		typeURL: typeURL, delta: delta, have: map[string]string{},
		wanted: newInterest([]string{}), told: newInterest([]string{}),
		stale: map[string]struct{}{}, again: map[string]struct{}{},
	}
}

// want replaces what is wanted.
func (w *watch) want(i interest) {
	w.known = w.known && w.wanted.wildcard
	w.rescan = w.rescan || w.wanted.wildcard != i.wildcard
	old := w.wanted.names
	w.wanted = i
	for n := range old {
		w.mark(n)
	}
	for n := range i.names {
		// Dropped by ask before, and the server was not told yet: as in ask.
		if _, before := old[n]; w.delta && !before && !w.holds(n) {
			w.repeat(n)
		}
		w.mark(n)
	}
}

func (w *watch) holds(n string) bool {
	_, ok := w.have[n]
	return ok
}

// repeat makes the server send a name again that it was told already.
func (w *watch) repeat(n string) {
	if _, ok := w.told.names[n]; ok {
		w.again[n] = struct{}{}
	}
}

// ask changes what is wanted by a few names. What the handler had of the names in less
// it has thrown away already: if one is asked for again before the server was told, the
// server has to send it again (DeltaDiscoveryRequest.resource_names_subscribe: it does
// that for each name that is subscribed to).
func (w *watch) ask(more, less []string) {
	for _, n := range less {
		delete(w.wanted.names, n)
		delete(w.have, n)
		delete(w.again, n)
		w.mark(n)
	}
	for _, n := range more {
		w.wanted.names[n] = struct{}{}
		delete(w.have, n) // what was on its way the handler did not take
		w.repeat(n)
		w.mark(n)
	}
}

// mark notes whether the server has to be told about a name.
func (w *watch) mark(n string) {
	_, wanted := w.wanted.names[n]
	_, told := w.told.names[n]
	_, again := w.again[n]
	if wanted != told || again {
		w.stale[n] = struct{}{}
	} else {
		delete(w.stale, n)
	}
	if _, ok := w.have[n]; ok && !wanted {
		w.loose = append(w.loose, n)
	}
}

// restart forgets what belongs to a stream.
func (w *watch) restart() {
	w.started, w.named, w.told, w.nonce, w.acks = false, false, newInterest([]string{}), "", nil
	clear(w.stale)
	clear(w.again)
	for n := range w.wanted.names {
		w.mark(n)
	}
	w.rescan = true
	w.doom()
	if w.partial {
		w.accepted = ""
	}
}

// next is the next request to send, or nil.
func (w *watch) next() *request {
	// No names still mean all: there is no way to say "none".
	silent := !w.delta && w.told.wildcard && !w.named && w.wanted.empty()
	switch {
	case !w.started && w.wanted.empty():
		return nil
	case w.started && len(w.acks) == 0 && (silent || !w.differs()):
		return nil
	}
	r := &request{typeURL: w.typeURL, nonce: w.nonce, version: w.accepted}
	if len(w.acks) > 0 {
		a := w.acks[0]
		w.acks = w.acks[1:]
		r.nonce, r.version, r.refused, r.problem = a.nonce, a.version, a.refused, a.problem
	} else if w.delta {
		r.nonce = "" // only an answer has one
	}
	if w.delta {
		w.deltaNames(r)
	} else {
		r.names = w.sotwNames()
	}
	w.started = true
	if !silent {
		w.tell()
	}
	w.doom()
	return r
}

// differs reports whether the server does not know what is wanted.
func (w *watch) differs() bool {
	return len(w.stale) > 0 || w.wanted.wildcard != w.told.wildcard
}

// tell notes that the server was told what is wanted.
func (w *watch) tell() {
	w.rescan = w.rescan || w.wanted.wildcard != w.told.wildcard
	w.told.wildcard = w.wanted.wildcard
	for n := range w.stale {
		if _, ok := w.wanted.names[n]; ok {
			w.told.names[n] = struct{}{}
		} else {
			delete(w.told.names, n)
			w.loose = append(w.loose, n)
		}
	}
	clear(w.stale)
	clear(w.again)
}

func (w *watch) sotwNames() []string {
	names := slices.Sorted(maps.Keys(w.wanted.names))
	if w.wanted.wildcard && (len(names) > 0 || w.named || !legacyWildcard(w.typeURL)) {
		names = append(names, wildcardName)
	}
	w.named = w.named || len(names) > 0
	return names
}

func (w *watch) deltaNames(r *request) {
	for n := range w.stale {
		_, wanted := w.wanted.names[n]
		_, told := w.told.names[n]
		_, again := w.again[n]
		switch {
		case wanted && (!told || again):
			r.subscribe = append(r.subscribe, n)
		case told && !wanted:
			r.unsubscribe = append(r.unsubscribe, n)
		}
	}
	// A first request without names means all, where the type allows that; it is the
	// form that every server understands.
	silent := !w.started && len(r.subscribe) == 0 && legacyWildcard(w.typeURL)
	if w.wanted.wildcard && !w.told.wildcard && !silent {
		r.subscribe = append(r.subscribe, wildcardName)
	}
	if !w.wanted.wildcard && w.told.wildcard {
		r.unsubscribe = append(r.unsubscribe, wildcardName)
	}
	slices.Sort(r.subscribe)
	slices.Sort(r.unsubscribe)
	if !w.started {
		r.initial = map[string]string{}
		for n, v := range w.have {
			if w.wanted.has(n) {
				r.initial[n] = v
			}
		}
	}
}

// keeps reports whether a resource stays. As long as the server was not told that it is
// no longer wanted it does; for when it is wanted again before that, it is not sent again.
func (w *watch) keeps(name string) bool { return w.wanted.has(name) || w.told.has(name) }

// doom notes what is there but no longer subscribed to. From here on it counts as not
// there: if it is wanted again, the server sends it again.
func (w *watch) doom() {
	loose := w.loose
	if w.rescan {
		loose = slices.Collect(maps.Keys(w.have))
	}
	w.loose, w.rescan = nil, false
	for _, n := range loose {
		if _, ok := w.have[n]; ok && !w.keeps(n) {
			delete(w.have, n)
			w.partial = true
			w.doomed = append(w.doomed, n)
		}
	}
}

// dropped is what the handler has but no longer gets; it has to be told before it is
// given anything newer.
func (w *watch) dropped() []string {
	w.doom()
	out := w.doomed
	w.doomed = nil
	slices.Sort(out)
	return out
}

// difference turns a response into what is new to the handler; errors are the
// resources that it need not see to refuse them. give reports whether there
// is something to hand over.
func (w *watch) difference(r *response) (u Update, errs map[string]error, give bool) {
	u.TypeURL = w.typeURL
	errs = map[string]error{}
	seen := map[string]bool{}
	readable := true
	for _, res := range r.resources {
		if _, ok := w.wanted.names[res.Name]; res.alias && !ok {
			continue // somebody else may have asked by it
		}
		name, err := w.check(&res)
		if err != nil {
			errs[name] = err
			readable = readable && name != ""
			seen[name] = true
			continue
		}
		if seen[name] {
			errs[name] = fmt.Errorf("resource %q is twice in one response", name)
			continue
		}
		seen[name] = true
		if version, ok := w.have[name]; w.keeps(name) && (!ok || version != res.Version) {
			u.Changed = append(u.Changed, res)
		}
	}
	u.Changed = slices.DeleteFunc(u.Changed, func(res Resource) bool { return errs[res.Name] != nil })
	if w.delta {
		for _, n := range r.removed {
			if seen[n] {
				continue
			}
			if _, ok := w.have[n]; ok {
				u.Removed = append(u.Removed, n)
			} else if _, ok := w.wanted.names[n]; ok {
				u.Absent = append(u.Absent, n)
			}
		}
	} else if fullState(w.typeURL) && readable {
		for n := range w.have {
			if !seen[n] {
				u.Removed = append(u.Removed, n)
			}
		}
	}
	slices.Sort(u.Removed)
	u.Removed = slices.Compact(u.Removed)
	give = len(u.Changed)+len(u.Removed)+len(u.Absent) > 0 || w.wanted.wildcard && !w.known
	return u, errs, give
}

// check completes a resource with the name and version that the wire did not have. The
// name "" with an error means that it could not be read.
func (w *watch) check(r *Resource) (string, error) {
	if r.Body == nil {
		return r.Name, fmt.Errorf("resource %q has no body", r.Name)
	}
	if r.Body.TypeUrl != w.typeURL {
		return r.Name, fmt.Errorf("resource %q is of type %q in a response of type %q", r.Name, r.Body.TypeUrl, w.typeURL)
	}
	if r.Name == "" && !w.delta {
		name, err := resourceName(r.Body)
		if err != nil {
			return "", err
		}
		r.Name = name
	}
	if r.Version == "" {
		r.Version = BodyVersion(r.Body)
	}
	return r.Name, nil
}

// applied notes what the handler took, and the answer to the server.
func (w *watch) applied(r *response, u Update, errs map[string]error) {
	for _, res := range u.Changed {
		if errs[res.Name] == nil {
			w.have[res.Name] = res.Version
		}
	}
	for _, n := range u.Removed {
		delete(w.have, n)
	}
	w.known = true
	w.nonce = r.nonce
	a := ack{nonce: r.nonce, refused: len(errs) > 0}
	if a.refused {
		a.problem = problem(errs)
	} else {
		w.accepted, w.partial = r.version, len(r.resources) != len(w.have)
	}
	a.version = w.accepted
	w.acks = append(w.acks, a)
}

// problem is the text of a NACK: one line for each refused resource.
func problem(errs map[string]error) string {
	var lines []string
	for _, n := range slices.Sorted(maps.Keys(errs)) {
		lines = append(lines, fmt.Sprintf("%s: %v", n, errs[n]))
	}
	return truncate(strings.Join(lines, "\n"), maxMessage)
}
