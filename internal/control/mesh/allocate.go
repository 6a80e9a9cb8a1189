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
	if previous != nil && r.allocated(previous) {
		r.snapshot.auto = previous.auto
		return
	}
	before := map[serviceKey]netip.Addr{}
	if previous != nil {
		before = previous.auto
	}
	auto := make(map[serviceKey]netip.Addr, max(len(before), len(r.services)))
	used := make(map[netip.Addr]bool, len(auto))
	fresh := map[string]*Service{}
	for _, s := range r.services {
		key := serviceKey{s.Namespace, s.Host}
		if !s.getsAddress() {
			continue
		}
		if a, ok := before[key]; ok {
			auto[key], used[a] = a, true
		} else if name := s.Namespace + "/" + s.Host; fresh[name] == nil {
			fresh[name] = s
		}
	}
	for _, name := range sortedKeys(fresh) {
		s := fresh[name]
		a, ok := freeSlot(name, used)
		if !ok {
			r.exhausted(s)
			break
		}
		auto[serviceKey{s.Namespace, s.Host}], used[a] = a, true
	}
	for i, s := range r.services {
		var a netip.Addr
		if s.getsAddress() {
			a = auto[serviceKey{s.Namespace, s.Host}]
		}
		r.setAuto(i, a)
	}
	r.snapshot.auto = auto
}

// getsAddress says whether the service is one that gets an automatic address.
func (s *Service) getsAddress() bool {
	return s.Registry != RegistryKubernetes && len(s.Addresses) == 0 && s.Resolution != ResolutionNone && !IsWildcard(s.Host)
}

// allocated gives the services the addresses that they had, if these are the same services
// as before, each in its place; else it does nothing.
func (r *registry) allocated(previous *Snapshot) bool {
	if !sameServices(previous.services, r.services) {
		return false
	}
	for i, s := range r.services {
		old := previous.services[i]
		if s != old && s.getsAddress() != old.getsAddress() || s.getsAddress() && len(old.AutoAddresses) == 0 {
			return false
		}
	}
	for i := range r.services {
		var a netip.Addr
		if old := previous.services[i].AutoAddresses; len(old) > 0 {
			a = old[0]
		}
		r.setAuto(i, a)
	}
	return true
}

// sameServices says whether both lists have the same hosts, each in its place.
func sameServices(a, b []*Service) bool {
	return slices.EqualFunc(a, b, func(x, y *Service) bool {
		return x == y || x.Host == y.Host && x.Namespace == y.Namespace
	})
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
