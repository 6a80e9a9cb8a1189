package xds

import (
	"hash/maphash"
	"iter"
)

// record is what is kept of one name. It is small because there are millions.
type record struct {
	name    nameKey
	version versionKey
	seq     uint32
	state   ackState
	known   bool // there is a holding
	named   bool // the name is subscribed to
}

// recordTable has records by name: a hash table with open addressing and linear probing. It takes
// half of the memory of Go's map, as it grows by quarters and to what is known to come; that is most of what a control
// plane with many proxies keeps. The zero value is empty. What all iterates over may not
// be changed meanwhile.
type recordTable struct {
	slots []record // one without a name is free
	used  int
}

var tableSeed = maphash.MakeSeed()

// home is the slot that a name is in, if no other took it.
func (t *recordTable) home(k nameKey) int {
	return int(maphash.Comparable(tableSeed, k) % uint64(len(t.slots)))
}

func (t *recordTable) after(i int) int {
	if i++; i < len(t.slots) {
		return i
	}
	return 0
}

// slot is where a name is, or would be put.
func (t *recordTable) slot(k nameKey) int {
	i := t.home(k)
	for t.slots[i].name != k && t.slots[i].name != (nameKey{}) {
		i = t.after(i)
	}
	return i
}

// get is the record of a name; the zero value when there is none.
func (t *recordTable) get(k nameKey) record {
	if t.used == 0 {
		return record{}
	}
	return t.slots[t.slot(k)]
}

// fits says whether there is room for n records, so that searches stay short.
func (t *recordTable) fits(n int) bool { return n*8 <= len(t.slots)*7 }

// reserve makes room for n records more.
func (t *recordTable) reserve(n int) {
	if !t.fits(t.used + n) {
		t.resize(t.used + n)
	}
}

// put adds or replaces a record.
func (t *recordTable) put(r record) {
	if !t.fits(t.used + 1) {
		t.resize(t.used + t.used/4 + 8)
	}
	s := &t.slots[t.slot(r.name)]
	if s.name == (nameKey{}) {
		t.used++
	}
	*s = r
}

// remove takes a record out. Those after it that could not be where they belong move up.
func (t *recordTable) remove(k nameKey) {
	if t.used == 0 {
		return
	}
	free := t.slot(k)
	if t.slots[free].name == (nameKey{}) {
		return
	}
	t.used--
	for i := t.after(free); t.slots[i].name != (nameKey{}); i = t.after(i) {
		home, n := t.home(t.slots[i].name), len(t.slots)
		if (i-home+n)%n >= (i-free+n)%n {
			t.slots[free], free = t.slots[i], i
		}
	}
	t.slots[free] = record{}
	if len(t.slots) > 32 && t.used*3 < len(t.slots) {
		t.resize(t.used + t.used/4)
	}
}

// resize makes room for n records, of which used are there.
func (t *recordTable) resize(n int) {
	old := t.slots
	t.slots = make([]record, n*8/7+1)
	for _, r := range old {
		if r.name != (nameKey{}) {
			t.slots[t.slot(r.name)] = r
		}
	}
}

// all are the records, in no order.
func (t *recordTable) all() iter.Seq[record] {
	return func(yield func(record) bool) {
		for _, r := range t.slots {
			if r.name != (nameKey{}) && !yield(r) {
				return
			}
		}
	}
}
