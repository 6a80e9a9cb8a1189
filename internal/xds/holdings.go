package xds

import (
	"hash/maphash"
	"iter"
	"unique"
)

// holdings are what is known of a client for each name: whether it subscribed to it, and
// what it has. There are a thousand clients with a thousand names each, mostly the same
// names: so a name is in one table only, its text is kept once for all, and of a version
// only what tells it from another.
type holdings struct {
	records recordTable
	named   int // how many are subscribed to
	bytes   int // of the names' text
}

// nameKey stands for a text that is kept once. Making one costs more than using it.
type nameKey = unique.Handle[string]

func keyOf(name string) nameKey { return unique.Make(name) }

// versionKey stands for the text of a version: a client that finds two with the same key
// misses an update of its own, and of 64 bits it would have to guess the seed.
type versionKey uint64

const (
	noVersion versionKey = iota // the client was told that it does not exist
	// unknownVersion is never equal to a version: the resource is sent, or its removal told.
	unknownVersion
	firstVersion
)

var versionSeed = maphash.MakeSeed()

func versionOf(text string) versionKey {
	if text == "" {
		return noVersion
	}
	return max(firstVersion, versionKey(maphash.String(versionSeed, text)))
}

func newHoldings() *holdings { return &holdings{} }

// get is what the client has; false: nothing is known.
func (t *holdings) get(k nameKey) (holding, bool) {
	r := t.records.get(k)
	return r.holding(), r.known
}

func (r record) holding() holding {
	if !r.known {
		return holding{}
	}
	return holding{version: r.version, seq: uint64(r.seq), state: r.state}
}

// set notes what the client has.
func (t *holdings) set(k nameKey, h holding) {
	t.put(record{name: k, version: h.version, seq: uint32(h.seq), state: h.state, known: true, named: t.has(k)})
}

// forget makes nothing be known of what the client has.
func (t *holdings) forget(k nameKey) { t.put(record{name: k, named: t.has(k)}) }

// has says whether the name is subscribed to.
func (t *holdings) has(k nameKey) bool { return t.records.get(k).named }

// add subscribes to a name; false: that was so before.
func (t *holdings) add(k nameKey) bool {
	r := t.records.get(k)
	if r.named {
		return false
	}
	r.name, r.named = k, true
	t.put(r)
	t.named++
	return true
}

// drop unsubscribes from a name; false: it was not subscribed to.
func (t *holdings) drop(k nameKey) bool {
	r := t.records.get(k)
	if !r.named {
		return false
	}
	r.named = false
	t.put(r)
	t.named--
	return true
}

// put keeps a record, or nothing of it if it says nothing.
func (t *holdings) put(r record) {
	before := t.records.used
	if r.known || r.named {
		t.records.put(r)
	} else {
		t.records.remove(r.name)
	}
	t.bytes += (t.records.used - before) * len(r.name.Value())
}

// expect makes room for so many more names.
func (t *holdings) expect(n int) { t.records.reserve(n) }

// names are those subscribed to.
func (t *holdings) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for r := range t.records.all() {
			if r.named && !yield(r.name.Value()) {
				return
			}
		}
	}
}

// all is what the client has.
func (t *holdings) all() iter.Seq2[nameKey, holding] {
	return func(yield func(nameKey, holding) bool) {
		for r := range t.records.all() {
			if r.known && !yield(r.name, r.holding()) {
				return
			}
		}
	}
}

// forgetIf forgets what f is true for.
func (t *holdings) forgetIf(f func(k nameKey, h holding) bool) {
	var names []nameKey
	for k, h := range t.all() {
		if f(k, h) {
			names = append(names, k)
		}
	}
	for _, k := range names {
		t.forget(k)
	}
}

// size is a bound on the memory of what the client named, in bytes.
func (t *holdings) size() int {
	const overhead = 96
	return t.bytes + t.records.used*overhead
}
