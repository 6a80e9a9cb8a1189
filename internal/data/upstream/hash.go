package upstream

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// table maps a hash to the index of a host. The same hosts give the same table, as in
// Envoy, so that proxies agree.
type table interface {
	// find is the host of a hash; attempt > 0 asks for another one.
	find(hash uint64, attempt int) int
}

// hashKey is what an endpoint's place comes from: its hash_key metadata, its host name
// or its address.
func hashKey(b *resource.Balancing, m *member) string {
	if key, err := strconv.Unquote(m.labels.Get("hash_key")); err == nil && key != "" {
		return key
	}
	if b.HashHostname && m.host.hostname != "" {
		return m.host.hostname
	}
	return m.host.text
}

// weights are the members' as parts of 1, with the least and the largest of them.
func normalized(members []member) (parts []float64, least, most float64) {
	var sum float64
	for _, m := range members {
		sum += float64(max(m.weight, 1))
	}
	parts, least = make([]float64, len(members)), 1
	for i, m := range members {
		parts[i] = float64(max(m.weight, 1)) / sum
		least, most = min(least, parts[i]), max(most, parts[i])
	}
	return parts, least, most
}

// ring is ketama's: each host is at many places of it, and a hash belongs to the next
// place. When a host leaves, only its own hashes move.
type ring struct {
	hashes []uint64 // sorted
	hosts  []uint32
}

// newRing makes as many places for each host as its weight says: the least gets a whole
// number of them, and all together at least MinRing and at most MaxRing.
func newRing(b *resource.Balancing, members []member) *ring {
	least, most := uint64(resource.DefaultRingSize), uint64(resource.DefaultMaxRing)
	if b.MinRing > 0 {
		least = b.MinRing
	}
	if b.MaxRing > 0 {
		most = b.MaxRing
	}
	parts, smallest, _ := normalized(members)
	scale := min(math.Ceil(smallest*float64(least))/smallest, float64(most))
	type place struct {
		hash uint64
		host uint32
	}
	places := make([]place, 0, int(math.Ceil(scale))+1)
	var target float64
	var key []byte
	for i := range members {
		target += scale * parts[i]
		key = append(append(key[:0], hashKey(b, &members[i])...), '_')
		name := len(key)
		for n := int64(0); float64(len(places)) < target; n++ {
			key = strconv.AppendInt(key[:name], n, 10)
			hash := xxhash.Sum64(key)
			if b.Murmur {
				hash = murmur2(key)
			}
			places = append(places, place{hash, uint32(i)})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	r := &ring{hashes: make([]uint64, len(places)), hosts: make([]uint32, len(places))}
	for i, p := range places {
		r.hashes[i], r.hosts[i] = p.hash, p.host
	}
	return r
}

func (r *ring) find(hash uint64, attempt int) int {
	i := sort.Search(len(r.hashes), func(i int) bool { return r.hashes[i] >= hash })
	return int(r.hosts[(i+attempt)%len(r.hosts)])
}

// maglev is the lookup table of "Maglev: A Fast and Reliable Software Network Load
// Balancer", section 3.4: each host fills the places of its own permutation, in turns.
type maglev struct{ slots []uint32 }

func newMaglev(b *resource.Balancing, members []member) *maglev {
	size := uint64(resource.DefaultMaglevSize)
	if b.MaglevSize > 0 {
		size = b.MaglevSize
	}
	type filler struct {
		host               uint32
		key                string
		offset, skip, next uint64
		weight, target     float64
	}
	parts, _, most := normalized(members)
	fillers := make([]filler, len(members))
	for i := range members {
		key := hashKey(b, &members[i])
		second := xxhash.NewWithSeed(1)
		_, _ = second.WriteString(key) // never fails
		fillers[i] = filler{
			host: uint32(i), key: key, weight: parts[i],
			offset: xxhash.Sum64String(key) % size, skip: second.Sum64()%max(size-1, 1) + 1,
		}
	}
	// The order of the endpoints must not matter.
	slices.SortStableFunc(fillers, func(a, b filler) int { return strings.Compare(a.key, b.key) })
	const free = math.MaxUint32
	m := &maglev{slots: make([]uint32, size)}
	for i := range m.slots {
		m.slots[i] = free
	}
	filled := uint64(0)
	for round := 1.0; filled < size; round++ {
		for i := range fillers {
			f := &fillers[i]
			if filled == size {
				break
			}
			if round*f.weight < f.target {
				continue // not its turn: it weighs less than others
			}
			f.target += most
			at := (f.offset + f.skip*f.next) % size
			for m.slots[at] != free {
				f.next++
				at = (f.offset + f.skip*f.next) % size
			}
			m.slots[at] = f.host
			f.next++
			filled++
		}
	}
	return m
}

func (m *maglev) find(hash uint64, attempt int) int {
	if attempt > 0 {
		hash ^= math.MaxUint64 - uint64(attempt) + 1 // far from the first, as in Envoy
	}
	return int(m.slots[hash%uint64(len(m.slots))])
}

// murmur2 is MurmurHash2 for 64 bits with the seed of libstdc++'s std::hash, which is
// Envoy's MURMUR_HASH_2.
func murmur2(key []byte) uint64 {
	const (
		seed = 0xc70f6907
		mul  = 0xc6a4a7935bd1e995
	)
	mix := func(v uint64) uint64 { return v ^ v>>47 }
	hash := seed ^ uint64(len(key))*mul
	for ; len(key) >= 8; key = key[8:] {
		hash = (hash ^ mix(binary.LittleEndian.Uint64(key)*mul)*mul) * mul
	}
	if len(key) > 0 {
		var last [8]byte
		copy(last[:], key)
		hash = (hash ^ binary.LittleEndian.Uint64(last[:])) * mul
	}
	return mix(mix(hash) * mul)
}
