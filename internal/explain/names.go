package explain

import (
	"net/netip"
	"strings"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/match"
)

// resolver says what the workload's DNS would answer, and what the proxy knows of an
// address.
type resolver interface {
	// resolve gives the address that the workload would call for a name.
	resolve(name string) netip.Addr
	// unknown: resolve's address only stands for those that DNS has for the name.
	unknown(name string) bool
	binding(netip.Addr) decide.Binding
}

// anyAddress stands for one that only the DNS outside knows (RFC 5737).
var anyAddress = netip.MustParseAddr("192.0.2.1")

func (m Mesh) resolver(store *config.Store) resolver {
	if m.Caller.DNSCapture {
		return captured{server: dns.New(dns.Options{Source: store, SearchDomains: m.Search}), config: store.Current(), search: m.Search}
	}
	return m.outside()
}

// ndots is how many dots a name needs to be tried as it is at first, in a pod.
const ndots = 5

// candidates are the names that a workload's resolver asks for, in order.
func candidates(name string, search []string) []string {
	canonical := match.CanonicalName(name)
	if strings.HasSuffix(name, ".") || strings.Count(canonical, ".") >= ndots {
		return []string{canonical}
	}
	var out []string
	for _, d := range search {
		out = append(out, canonical+"."+match.CanonicalName(d))
	}
	return append(out, canonical)
}

// captured: the proxy answers the workload's DNS.
type captured struct {
	server *dns.Server
	config *config.Config
	search []string
}

func (d captured) resolve(name string) netip.Addr {
	for _, n := range candidates(name, d.search) {
		if answer := d.server.Assign(d.config, n); answer.Kind != dns.Search && len(answer.Addresses) > 0 {
			return answer.Addresses[0]
		}
	}
	return anyAddress // ALLOW_ANY: a real address, whichever; the decision is the same for each
}

func (d captured) unknown(string) bool { return false }

func (d captured) binding(a netip.Addr) decide.Binding { return d.server.Binding(a) }

// uncaptured: the cluster's DNS answers, and the proxy sees addresses only.
type uncaptured struct {
	// hosts are the Services of the cluster, and the ServiceEntries that the caller sees.
	hosts  map[string]*mesh.Service
	pods   map[string]netip.Addr // of headless Services, by name
	search []string
}

func (m Mesh) outside() uncaptured {
	u := uncaptured{hosts: map[string]*mesh.Service{}, pods: map[string]netip.Addr{}, search: m.Search}
	for _, svc := range m.Snapshot.Scope(m.Caller.Node).Services {
		u.hosts[svc.Host] = svc
	}
	for _, svc := range m.Snapshot.Services() {
		if svc.Registry != mesh.RegistryKubernetes {
			continue
		}
		u.hosts[svc.Host] = svc // DNS does not ask who sees it
		for i := range svc.Endpoints {
			if a, err := netip.ParseAddr(svc.Endpoints[i].Address); err == nil && svc.Headless && svc.Endpoints[i].Hostname != "" {
				u.pods[svc.Endpoints[i].Hostname+"."+svc.Host] = a
			}
		}
	}
	return u
}

func (u uncaptured) resolve(name string) netip.Addr {
	if a := u.find(name); a.IsValid() {
		return a
	}
	return anyAddress
}

func (u uncaptured) unknown(name string) bool {
	_, err := netip.ParseAddr(name)
	return err != nil && !u.find(name).IsValid()
}

func (uncaptured) binding(netip.Addr) decide.Binding { return decide.Binding{} }

// find is the address that the cluster's DNS has, or that a ServiceEntry says; none where
// only the DNS outside knows.
func (u uncaptured) find(name string) netip.Addr {
	for _, n := range candidates(name, u.search) {
		if a, ok := u.pods[n]; ok {
			return a
		}
		svc := u.hosts[n]
		if svc == nil {
			continue
		}
		if to := svc.ExternalName; to != "" { // one step: what an alias of an alias is, is not looked at
			svc = u.hosts[match.CanonicalName(to)]
		}
		return addressOf(svc)
	}
	return netip.Addr{}
}

func addressOf(svc *mesh.Service) netip.Addr {
	switch {
	case svc == nil:
		return netip.Addr{}
	case len(svc.Addresses) > 0:
		return svc.Addresses[0].Addr()
	case svc.Headless && len(svc.Endpoints) > 0:
		a, _ := netip.ParseAddr(svc.Endpoints[0].Address) // a name is none
		return a
	}
	return netip.Addr{}
}
