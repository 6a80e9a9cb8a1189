package upstream

import "github.com/egret-mesh/egret/internal/data/record"

// Clusters tells what the clusters that were used are doing now, for metrics.
func (m *Manager) Clusters() []record.ClusterState {
	states := m.all()
	out := make([]record.ClusterState, 0, len(states))
	for _, s := range states {
		c := record.ClusterState{Name: s.name, Connections: s.connected.Load(), ConnectFailures: s.connectFailures.Load()}
		for i := range s.breakers {
			c.ActiveConnections += s.breakers[i].connections.Load()
			c.ActiveRequests += s.breakers[i].requests.Load()
		}
		for _, t := range s.set.Load().tiers {
			c.Healthy += int(t.health().healthy)
		}
		s.mu.RLock()
		c.Hosts = len(s.hosts)
		s.mu.RUnlock()
		out = append(out, c)
	}
	return out
}
