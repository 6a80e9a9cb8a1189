package resource

import (
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// portSet is a set of ports as sorted, disjoint, half-open ranges.
type portSet []portRange

type portRange struct{ start, end uint32 }

const portsEnd = 65536

func (s portSet) has(port uint16) bool {
	for _, r := range s {
		if uint32(port) >= r.start && uint32(port) < r.end {
			return true
		}
	}
	return false
}

func (s portSet) not() portSet {
	var out portSet
	next := uint32(0)
	for _, r := range s {
		if r.start > next {
			out = append(out, portRange{next, r.start})
		}
		next = r.end
	}
	if next < portsEnd {
		out = append(out, portRange{next, portsEnd})
	}
	return out
}

func (s portSet) or(t portSet) portSet {
	all := slices.Concat(s, t)
	slices.SortFunc(all, func(a, b portRange) int { return int(a.start) - int(b.start) })
	var out portSet
	for _, r := range all {
		if n := len(out); n > 0 && r.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, r.end)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (s portSet) and(t portSet) portSet { return s.not().or(t.not()).not() }

// disabledPorts is the set of destination ports that a listener filter's
// filter_disabled predicate is true for.
func (c *decoding) disabledPorts(p *path, m *listenerv3.ListenerFilterChainMatchPredicate) portSet {
	if m == nil {
		return nil
	}
	switch rule := m.GetRule().(type) {
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		if rule.AnyMatch {
			return portSet{{0, portsEnd}}
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		return c.disabledPorts(p.field("not_match"), rule.NotMatch).not()
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		var all portSet
		for i, r := range rule.OrMatch.GetRules() {
			all = all.or(c.disabledPorts(p.at("or_match.rules", i), r))
		}
		return all
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		all := portSet{{0, portsEnd}}
		for i, r := range rule.AndMatch.GetRules() {
			all = all.and(c.disabledPorts(p.at("and_match.rules", i), r))
		}
		return all
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		start, end := rule.DestinationPortRange.GetStart(), rule.DestinationPortRange.GetEnd()
		if start < 0 || end <= start || end > portsEnd {
			c.fail(p.field("destination_port_range"), "[%d, %d) is not a range of ports", start, end)
			return nil
		}
		return portSet{{uint32(start), uint32(end)}}
	}
	return nil
}
