package upstream

import "net/netip"

// HostInfo is what one host of a cluster is doing now.
type HostInfo struct {
	Address  netip.AddrPort
	Hostname string
	Priority int
	Weight   uint32
	// Unhealthy: the control plane says so. Ejected: outlier detection does.
	Unhealthy, Ejected bool
	// Connections that are open, and requests (or TCP connections) that are under way.
	Connections, Requests int64
}

// Hosts are the hosts of a cluster, in the order of their priorities. used is false where
// the cluster was not used yet: its names were not resolved, and nothing is known.
func (m *Manager) Hosts(cluster string) (hosts []HostInfo, used bool) {
	m.mu.RLock()
	s := m.states[cluster]
	m.mu.RUnlock()
	if s == nil {
		return nil, false
	}
	set := s.set.Load()
	if set.onDemand() {
		return s.hostsOnDemand(), true
	}
	for priority, t := range set.tiers {
		for _, l := range t.localities {
			for _, member := range l.members {
				info := member.host.info()
				info.Priority, info.Weight, info.Unhealthy = priority, uint32(member.weight), member.unhealthy
				hosts = append(hosts, info)
			}
		}
	}
	return hosts, true
}

func (s *state) hostsOnDemand() (hosts []HostInfo) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, h := range s.hosts {
		info := h.info()
		info.Weight = 1
		hosts = append(hosts, info)
	}
	return hosts
}

func (h *Host) info() HostInfo {
	return HostInfo{
		Address: h.addr, Hostname: h.hostname, Ejected: h.ejected(),
		Connections: h.connections.Load(), Requests: h.active.Load(),
	}
}
