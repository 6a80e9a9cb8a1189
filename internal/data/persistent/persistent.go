// Package persistent is a map that never changes: With and Without make another one
// that shares almost all of it. So a large configuration can be extended by one entry
// without a copy, while others read the one of before. It is a hash array mapped trie
// (P. Bagwell, "Ideal Hash Trees", 2001) with a seed of its own per map, so that nobody
// can choose keys that collide.
//
// It must not import any other package of this module.
package persistent

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// Map is an immutable map. The zero value is an empty one. It is safe for concurrent use.
type Map[K comparable, V any] struct {
	root *node[K, V]
	size int
	seed maphash.Seed
}

const (
	levelBits = 5
	levelMask = 1<<levelBits - 1
	// lastShift is the last level that has bits of the hash left. Below it a node is a list.
	lastShift = 60
)

// node has one slot for each bit of present, in order. Below lastShift present is 0,
// and the slots are keys whose hashes are equal.
type node[K comparable, V any] struct {
	present uint32
	slots   []slot[K, V]
}

// slot is a key with its value, or where below is not nil what is further down.
type slot[K comparable, V any] struct {
	key   K
	value V
	below *node[K, V]
}

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.size }

// Get is the value of a key. It does not allocate.
func (m Map[K, V]) Get(key K) (V, bool) {
	var none V
	if m.root == nil {
		return none, false
	}
	hash := maphash.Comparable(m.seed, key)
	n := m.root
	for shift := 0; shift <= lastShift; shift += levelBits {
		bit := uint32(1) << (hash >> shift & levelMask)
		if n.present&bit == 0 {
			return none, false
		}
		s := &n.slots[n.index(bit)]
		if s.below == nil {
			if s.key == key {
				return s.value, true
			}
			return none, false
		}
		n = s.below
	}
	for i := range n.slots {
		if n.slots[i].key == key {
			return n.slots[i].value, true
		}
	}
	return none, false
}

func (n *node[K, V]) index(bit uint32) int { return bits.OnesCount32(n.present & (bit - 1)) }

// With is the map with key set to value.
func (m Map[K, V]) With(key K, value V) Map[K, V] {
	if m.root == nil {
		m = Map[K, V]{root: &node[K, V]{}, seed: maphash.MakeSeed()}
	}
	added := false
	m.root = m.put(m.root, slot[K, V]{key: key, value: value}, maphash.Comparable(m.seed, key), 0, &added)
	if added {
		m.size++
	}
	return m
}

func (m Map[K, V]) put(n *node[K, V], s slot[K, V], hash uint64, shift int, added *bool) *node[K, V] {
	if shift > lastShift {
		i := slices.IndexFunc(n.slots, func(have slot[K, V]) bool { return have.key == s.key })
		if *added = i < 0; *added {
			return &node[K, V]{slots: append(slices.Clip(n.slots), s)}
		}
		return n.replaced(i, s)
	}
	bit := uint32(1) << (hash >> shift & levelMask)
	i := n.index(bit)
	if n.present&bit == 0 {
		*added = true
		slots := make([]slot[K, V], len(n.slots)+1)
		copy(slots, n.slots[:i])
		slots[i] = s
		copy(slots[i+1:], n.slots[i:])
		return &node[K, V]{present: n.present | bit, slots: slots}
	}
	have := n.slots[i]
	switch {
	case have.below != nil:
		return n.replaced(i, slot[K, V]{below: m.put(have.below, s, hash, shift+levelBits, added)})
	case have.key == s.key:
		return n.replaced(i, s)
	}
	*added = true
	var ignored bool
	below := m.put(&node[K, V]{}, have, maphash.Comparable(m.seed, have.key), shift+levelBits, &ignored)
	return n.replaced(i, slot[K, V]{below: m.put(below, s, hash, shift+levelBits, &ignored)})
}

func (n *node[K, V]) replaced(i int, s slot[K, V]) *node[K, V] {
	slots := slices.Clone(n.slots)
	slots[i] = s
	return &node[K, V]{present: n.present, slots: slots}
}

// Without is the map without key.
func (m Map[K, V]) Without(key K) Map[K, V] {
	if _, ok := m.Get(key); !ok {
		return m
	}
	if m.size == 1 {
		return Map[K, V]{}
	}
	m.root = m.take(m.root, key, maphash.Comparable(m.seed, key), 0)
	m.size--
	return m
}

// take is n without a key that is in it; nil where nothing is left.
func (m Map[K, V]) take(n *node[K, V], key K, hash uint64, shift int) *node[K, V] {
	if shift > lastShift {
		return n.without(slices.IndexFunc(n.slots, func(have slot[K, V]) bool { return have.key == key }), 0)
	}
	bit := uint32(1) << (hash >> shift & levelMask)
	i := n.index(bit)
	below := n.slots[i].below
	if below == nil {
		return n.without(i, bit)
	}
	rest := m.take(below, key, hash, shift+levelBits)
	switch {
	case rest == nil:
		return n.without(i, bit)
	case len(rest.slots) == 1 && rest.slots[0].below == nil:
		return n.replaced(i, rest.slots[0]) // one key alone needs no level of its own
	}
	return n.replaced(i, slot[K, V]{below: rest})
}

func (n *node[K, V]) without(i int, bit uint32) *node[K, V] {
	if len(n.slots) == 1 {
		return nil
	}
	return &node[K, V]{present: n.present &^ bit, slots: slices.Delete(slices.Clone(n.slots), i, i+1)}
}

// All gives each key with its value, in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.all(yield)
		}
	}
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	for i := range n.slots {
		s := &n.slots[i]
		if s.below != nil && !s.below.all(yield) || s.below == nil && !yield(s.key, s.value) {
			return false
		}
	}
	return true
}
