package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// reverseIndex is the name table by address, names sorted. It never changes.
type reverseIndex struct {
	table *resource.NameTable
	names map[netip.Addr][]string
}

// index returns the index of a table, making it when the table is a new one. Of many
// that ask for a new one at once, one makes it.
func (s *Server) index(t *resource.NameTable) *reverseIndex {
	if x := s.reverse.Load(); x != nil && x.table == t {
		return x
	}
	s.reversing.Lock()
	defer s.reversing.Unlock()
	if x := s.reverse.Load(); x != nil && x.table == t {
		return x
	}
	x := newReverseIndex(t)
	s.reverse.Store(x)
	return x
}

func newReverseIndex(t *resource.NameTable) *reverseIndex {
	x := &reverseIndex{table: t, names: map[netip.Addr][]string{}}
	if t == nil {
		return x
	}
	x.names = make(map[netip.Addr][]string, len(t.Names))
	for name, info := range t.Names {
		for _, a := range info.Addresses {
			a = a.Unmap()
			if !slices.Contains(x.names[a], name) {
				x.names[a] = append(x.names[a], name)
			}
		}
	}
	for _, names := range x.names {
		slices.Sort(names)
	}
	return x
}

// reverseAddress reads a name of in-addr.arpa or ip6.arpa (RFC 1035 3.5, RFC 3596
// 2.5); only whole addresses count.
func reverseAddress(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		if i < 31 && rest[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(rest[2*i:2*i+1], 16, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
