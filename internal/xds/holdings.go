package xds

import (
	"iter"
	"maps"
	"unique"
)

// holdings are what is known of a client for each name: whether it subscribed to it, and
// what it has. There are a thousand clients with a thousand names each, mostly the same
// names and versions: so a name is in one map only, and text is kept once for all.
type holdings struct {
	records map[nameKey]record
	named   int // how many are subscribed to
}

// nameKey stands for a text that is kept once. Making one costs more than using it.
type nameKey = unique.Handle[string]

func keyOf(name string) nameKey { return unique.Make(name) }

type record struct {
	version nameKey
	seq     uint64
	state   ackState
	known   bool // there is a holding
	named   bool // the name is subscribed to
}

func newHoldings() *holdings { return &holdings{records: map[nameKey]record{}} }

// get is what the client has; false: nothing is known.
func (t *holdings) get(k nameKey) (holding, bool) {
	r := t.records[k]
	return r.holding(), r.known
}

func (r record) holding() holding {
	if !r.known {
		return holding{}
	}
	return holding{version: r.version.Value(), seq: r.seq, state: r.state}
}

// set notes what the client has.
func (t *holdings) set(k nameKey, h holding) {
	old := t.records[k]
	version := old.version
	if !old.known || version.Value() != h.version {
		version = keyOf(h.version)
	}
	t.records[k] = record{version: version, seq: h.seq, state: h.state, known: true, named: old.named}
}

// forget makes nothing be known of what the client has.
func (t *holdings) forget(k nameKey) {
	if t.records[k].named {
		t.records[k] = record{named: true}
	} else {
		delete(t.records, k)
	}
}

// has says whether the name is subscribed to.
func (t *holdings) has(k nameKey) bool { return t.records[k].named }

// add subscribes to a name; false: that was so before.
func (t *holdings) add(k nameKey) bool {
	r := t.records[k]
	if r.named {
		return false
	}
	r.named = true
	t.records[k] = r
	t.named++
	return true
}

// drop unsubscribes from a name; false: it was not subscribed to.
func (t *holdings) drop(k nameKey) bool {
	r := t.records[k]
	if !r.named {
		return false
	}
	t.named--
	if r.named = false; r.known {
		t.records[k] = r
	} else {
		delete(t.records, k)
	}
	return true
}

// names are those subscribed to.
func (t *holdings) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for k, r := range t.records {
			if r.named && !yield(k.Value()) {
				return
			}
		}
	}
}

// all is what the client has.
func (t *holdings) all() iter.Seq2[nameKey, holding] {
	return func(yield func(nameKey, holding) bool) {
		for k, r := range t.records {
			if r.known && !yield(k, r.holding()) {
				return
			}
		}
	}
}

// forgetIf forgets what f is true for.
func (t *holdings) forgetIf(f func(k nameKey, h holding) bool) {
	for k, h := range maps.Collect(t.all()) {
		if f(k, h) {
			t.forget(k)
		}
	}
}

// size is a bound on the memory of what the client named, in bytes.
func (t *holdings) size() int {
	const overhead = 96
	n := 0
	for k, r := range t.records {
		n += len(k.Value()) + overhead
		if r.known {
			n += len(r.version.Value())
		}
	}
	return n
}
