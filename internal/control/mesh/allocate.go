package mesh

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// AutoRange is the range that automatic addresses are of: Istio's, a part of the
// reserved class E (RFC 1112 section 4), so it never is a real destination.
var AutoRange = netip.MustParsePrefix("240.240.0.0/16")

// autoSlots leaves out the first and the last address of each /24, as Istio does,
// because some systems refuse them.
const autoSlots = 256 * 254

func slotAddress(slot uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{240, 240, byte(slot / 254), byte(slot%254 + 1)})
}

// allocate gives each service that has no addresses, no wildcard and another
// resolution than NONE an address of AutoRange. The address is the hash of
// namespace and host; collisions are resolved by double hashing in the order of
// the keys, so that the result depends on the set of services only, not on its order.
// Addresses that the previous snapshot allocated stay.
func (r *registry) allocate(previous *Snapshot) {
	before := map[string]netip.Addr{}
	if previous != nil {
		before = previous.auto
	}
	auto := make(map[string]netip.Addr, max(len(before), len(r.services)))
	used := make(map[netip.Addr]bool, len(auto))
	keys := make([]string, len(r.services)) // by place in services; "": it gets none
	fresh := map[string]*Service{}
	for i, s := range r.services {
		if len(s.Addresses) > 0 || s.Resolution == ResolutionNone || IsWildcard(s.Host) {
			continue
		}
		keys[i] = s.Namespace + "/" + s.Host
		if a, ok := before[keys[i]]; ok {
			auto[keys[i]], used[a] = a, true
		} else if fresh[keys[i]] == nil {
			fresh[keys[i]] = s
		}
	}
	for _, key := range sortedKeys(fresh) {
		a, ok := freeSlot(key, used)
		if !ok {
			r.exhausted(fresh[key])
			break
		}
		auto[key], used[a] = a, true
	}
	for i, key := range keys {
		r.setAuto(i, auto[key])
	}
	r.snapshot.auto = auto
}

// setAuto gives the service at a place its address; the zero one is none.
func (r *registry) setAuto(at int, a netip.Addr) {
	s := r.services[at]
	var want []netip.Addr
	if a.IsValid() {
		want = []netip.Addr{a}
	}
	if slices.Equal(s.AutoAddresses, want) {
		return
	}
	if !r.fresh[s] {
		s = r.writable(at)
	}
	s.AutoAddresses = want
}

func freeSlot(key string, used map[netip.Addr]bool) (netip.Addr, bool) {
	if len(used) >= autoSlots {
		return netip.Addr{}, false
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	sum := binary.BigEndian.Uint64(h.Sum(nil))
	first := uint32(sum % autoSlots)
	// autoSlots is 2^9 * 127: an odd step that 127 does not divide visits every slot.
	step := uint32(sum>>32)%autoSlots | 1
	if step%127 == 0 {
		step += 2
	}
	for i := uint32(0); i < autoSlots; i++ {
		a := slotAddress(uint32((uint64(first) + uint64(i)*uint64(step)) % autoSlots))
		if !used[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (r *registry) exhausted(s *Service) {
	for _, e := range r.objects.ServiceEntries {
		if e.Ref == s.Source {
			r.problems = append(r.problems, problem(istioapi.Error, &e.Meta, "addresses_exhausted", "spec.hosts",
				"no automatic address is left for "+s.Host+": give it spec.addresses"))
			return
		}
	}
}
