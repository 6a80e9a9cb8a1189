package mesh

import (
	"maps"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Changes are what one snapshot has that another has not.
type Changes struct {
	// All: something changed that may concern everything (MeshConfig, a Sidecar, a
	// Telemetry, a PeerAuthentication, the order of objects, the selectors that choose nodes).
	All bool
	// Base: what every sidecar has may have changed: that there is something on a port, or
	// what is found by its address.
	Base bool
	// Keys are what changed, in the words of Part.
	Keys []string
}

// None says that nothing changed.
func (c *Changes) None() bool { return !c.All && !c.Base && len(c.Keys) == 0 }

// Diff compares two snapshots, as far as sidecars can tell. Objects that are the same in
// memory are not looked at.
func Diff(before, after *Snapshot) Changes {
	if before == after {
		return Changes{}
	}
	d := &diff{before: before, after: after}
	d.surroundings()
	d.compareServices()
	d.compareVirtual()
	d.compareRules()
	if d.All {
		d.Base, d.Keys = true, nil
	}
	slices.Sort(d.Keys)
	d.Keys = slices.Compact(d.Keys)
	return d.Changes
}

type diff struct {
	Changes
	before, after *Snapshot
}

func (d *diff) surroundings() {
	a, b := d.before, d.after
	same := proto.Equal(a.config, b.config) && a.configRef == b.configRef && a.policy.Mode == b.policy.Mode &&
		a.rootNamespace == b.rootNamespace && a.domain == b.domain && a.accessLogFile == b.accessLogFile &&
		a.peersSum == b.peersSum &&
		slices.Equal(a.labelKeys, b.labelKeys) &&
		sameLists(a.sidecars, b.sidecars, func(x, y *istioapi.Sidecar) bool { return x.Ref == y.Ref && x.Spec == y.Spec }) &&
		sameLists(a.telemetries, b.telemetries, func(x, y *istioapi.Telemetry) bool { return x.Ref == y.Ref && x.Spec == y.Spec })
	d.All = d.All || !same
}

func sameLists[T any](a, b map[string][]T, same func(T, T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	for k, list := range a {
		if !slices.EqualFunc(list, b[k], same) {
			return false
		}
	}
	return true
}

// unmatched are the elements of each list that the other has not; ordered is false when
// those that both have are not in the same order.
func unmatched[T comparable](before, after []T) (gone, come []T, ordered bool) {
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	place := make(map[T]int, len(before))
	for i, x := range before {
		place[x] = i
	}
	last := -1
	ordered = true
	kept := make(map[T]bool, len(after))
	for _, x := range after {
		i, ok := place[x]
		if !ok {
			come = append(come, x)
			continue
		}
		ordered = ordered && i > last
		last, kept[x] = i, true
	}
	for _, x := range before {
		if !kept[x] {
			gone = append(gone, x)
		}
	}
	return gone, come, ordered
}

func (d *diff) compareServices() {
	gone, come, ordered := unmatched(d.before.services, d.after.services)
	d.All = d.All || !ordered
	old := make(map[serviceKey]*Service, len(gone))
	for _, s := range gone {
		old[serviceKey{s.Namespace, s.Host}] = s
	}
	inPlace := len(gone) == len(come)
	for i, s := range come {
		was := old[serviceKey{s.Namespace, s.Host}]
		if inPlace && was == gone[i] {
			if reflect.DeepEqual(was, s) {
				delete(old, serviceKey{s.Namespace, s.Host})
				continue
			}
			if !onlyEndpoints(was, s) && (!plain(was) || !plain(s) || !samePorts(was, s) || !maps.Equal(was.Selector, s.Selector) || !was.visible.equal(s.visible)) {
				d.Base = true
			}
		} else {
			d.Base = true
		}
		d.touchService(s)
	}
	d.Base = d.Base || !inPlace
	for _, s := range gone {
		if old[serviceKey{s.Namespace, s.Host}] == s || !inPlace {
			d.touchService(s)
		}
	}
}

// plain: nothing of the service is found by address, and nothing but its ports matters to
// who does not call it.
func plain(s *Service) bool {
	return len(s.Addresses) == 0 && s.Host != "*" && !slices.ContainsFunc(s.Ports, func(p Port) bool {
		return p.Protocol != ProtocolHTTP && !p.Protocol.IsTLS()
	})
}

// onlyEndpoints: the two differ in nothing but where their endpoints are, and nothing is
// found by the address of one: pods come and go in Services all the time.
func onlyEndpoints(was, s *Service) bool {
	if was.listensByEndpoint() || s.listensByEndpoint() {
		return false
	}
	for _, p := range s.Ports {
		if was.target(Node{}, p) != s.target(Node{}, p) {
			return false
		}
	}
	a, b := *was, *s
	a.Endpoints, b.Endpoints = nil, nil
	return reflect.DeepEqual(a, b)
}

// listensByEndpoint: connections to its endpoints' addresses are told apart by these.
func (s *Service) listensByEndpoint() bool {
	return s.Headless || s.Resolution == ResolutionNone
}

func samePorts(a, b *Service) bool {
	return slices.EqualFunc(a.Ports, b.Ports, func(p, q Port) bool {
		return p.Number == q.Number && p.TargetPort == q.TargetPort && p.Protocol == q.Protocol
	})
}

func (d *diff) touchService(s *Service) {
	d.Keys = append(append(d.Keys, s.hosts()...), addressesOf(s)...)
	parents(s.Host, func(w string) bool {
		d.Keys = append(d.Keys, underKey+w)
		return false
	})
}

// virtualKey is what makes a VirtualService the same.
type virtualKey struct {
	ref  istioapi.Ref
	spec any
}

func (d *diff) compareVirtual() {
	keys := func(s *Snapshot) []virtualKey {
		list := s.byGateway[MeshGateway]
		out := make([]virtualKey, len(list))
		for i, v := range list {
			out[i] = virtualKey{v.Ref, v.Spec}
		}
		return out
	}
	before, after := keys(d.before), keys(d.after)
	gone, come, ordered := unmatched(before, after)
	d.All = d.All || !ordered
	touch := func(s *Snapshot, all, changed []virtualKey) {
		set := make(map[virtualKey]bool, len(changed))
		for _, k := range changed {
			set[k] = true
		}
		for i, v := range s.byGateway[MeshGateway] {
			if len(set) > 0 && set[all[i]] {
				d.touchVirtual(v)
			}
		}
	}
	touch(d.before, before, gone)
	touch(d.after, after, come)
}

func (d *diff) touchVirtual(v *VirtualService) {
	d.Base = d.Base || len(v.Spec.GetTls())+len(v.Spec.GetTcp()) > 0
	d.Keys = append(append(d.Keys, v.Hosts...), sniOf(v)...)
	for _, h := range destinationsOf(v, d.after.domain) {
		d.Keys = append(d.Keys, toKey+h)
	}
	for _, h := range v.Hosts {
		parents(h, func(w string) bool {
			d.Keys = append(d.Keys, underKey+w)
			return false
		})
	}
}

// compareRules touches the hosts of DestinationRules that changed.
func (d *diff) compareRules() {
	a, b := d.before.destinations, d.after.destinations
	touch := func(x, y destinationRules) {
		for namespace, byHost := range x {
			for host, rules := range byHost {
				if !slices.EqualFunc(rules, y[namespace][host], sameRule) {
					d.Base = true
					d.Keys = append(d.Keys, ruleKey+host)
				}
			}
		}
	}
	touch(a, b)
	touch(b, a)
}

func sameRule(a, b *DestinationRule) bool {
	return slices.Equal(a.Sources, b.Sources) && a.Policy == b.Policy && slices.Equal(a.Subsets, b.Subsets) &&
		reflect.DeepEqual(a.selector, b.selector) && a.visible.equal(b.visible)
}
