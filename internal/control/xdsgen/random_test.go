package xdsgen

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	"istio.io/api/type/v1beta1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// edits makes worlds of objects that get in each other's way: few names, shared hosts and
// addresses, wildcards, several namespaces.
type edits struct {
	*rand.Rand
	objects map[istioapi.Ref]istioapi.Object
	// services are those of a cluster; without pods there is none.
	services map[string]*mesh.Service
	pods     bool
	serial   int
}

func newEdits(seed uint64) *edits {
	return &edits{Rand: rand.New(rand.NewPCG(seed, 1)), objects: map[istioapi.Ref]istioapi.Object{}, services: map[string]*mesh.Service{}, pods: seed%2 == 1}
}

func pick[T any](e *edits, list ...T) T { return list[e.IntN(len(list))] }

func (e *edits) host() string {
	return pick(e, "a.example.com", "b.example.com", "c.example.com", "x.a.example.com", "*.example.com", "*.a.example.com",
		"d.test", "*.test", "web.default.svc.cluster.local", "web.other.svc.cluster.local", "web")
}

func (e *edits) namespace() string { return pick(e, "default", "default", "other") }

func (e *edits) meta(kind string) istioapi.Meta {
	name := fmt.Sprintf("%s%d", kind[:1], e.IntN(8))
	e.serial++
	return istioapi.Meta{Ref: istioapi.Ref{Kind: kind, Namespace: e.namespace(), Name: name}}
}

// step changes one object: it comes, goes, or becomes another.
func (e *edits) step() {
	if e.pods && e.IntN(3) == 0 {
		e.service()
		return
	}
	var o istioapi.Object
	switch n := e.IntN(20); {
	case n < 10:
		o = e.serviceEntry()
	case n < 15:
		o = e.virtualService()
	case n < 18:
		o = e.destinationRule()
	case n < 19 && (!e.pods || e.IntN(2) == 0):
		o = e.sidecar()
	case n < 19:
		o = e.peerAuthentication()
	default:
		o = &istioapi.MeshConfig{Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "MeshConfig", Namespace: "istio-system", Name: "istio"}}}
	}
	ref := o.Common().Ref
	if _, ok := e.objects[ref]; ok && e.IntN(3) == 0 {
		delete(e.objects, ref)
		return
	}
	e.objects[ref] = o
}

// service changes a Service of the cluster: it comes, goes, or has other endpoints or ports.
func (e *edits) service() {
	namespace, name := e.namespace(), pick(e, "web", "db", "other")
	k := namespace + "/" + name
	old := e.services[k]
	if old != nil && e.IntN(4) == 0 {
		delete(e.services, k)
		return
	}
	endpoint := kubeEndpoint(fmt.Sprintf("203.0.113.%d", e.IntN(3)+1), map[string]uint32{"http": 8080, "tcp": 9000, "any": 9001}, map[string]string{"v": pick(e, "1", "2")})
	endpoint.Hostname = pick(e, "", "pod")
	endpoint.MutualTLS, endpoint.ServiceAccount = e.IntN(3) > 0, pick(e, "", "a", "b")
	if old != nil && e.IntN(2) == 0 { // a pod comes
		s := *old
		s.Endpoints = append(s.Endpoints[:len(s.Endpoints):len(s.Endpoints)], endpoint)
		e.services[k] = &s
		return
	}
	s := kubeService(namespace, name, pick(e, "", "192.0.2.1", "192.0.2.3"), []mesh.Port{
		kubePort(80, pick(e, uint32(0), 8080), "http"), kubePort(9000, 9000, "tcp"), kubePort(9001, 9001, "any"),
	}[:e.IntN(3)+1], endpoint)
	s.Selector = map[string]string{"app": pick(e, "test", "else")}
	if e.IntN(5) == 0 {
		s.Headless, s.Addresses, s.Selector = false, nil, nil
		s.ExternalName = pick(e, "web.default.svc.cluster.local", "web.other.svc.cluster.local", "d.test")
	}
	if e.IntN(5) == 0 {
		s.ExportTo = []string{"."}
	}
	e.services[k] = s
}

// options are those of the next snapshot.
func (e *edits) options(previous *mesh.Snapshot) mesh.Options {
	o := mesh.Options{Previous: previous, Pods: e.pods}
	for _, k := range slices.Sorted(maps.Keys(e.services)) {
		o.BuiltIn = append(o.BuiltIn, e.services[k])
	}
	return o
}

// state are the objects in the order of their names.
func (e *edits) state() istioapi.Objects {
	var out istioapi.Objects
	for i, o := range sortedObjects(e.objects) {
		c := istioapi.Copy(o)
		c.Common().Order = i
		out.Add(c)
	}
	return out
}

func (e *edits) serviceEntry() istioapi.Object {
	s := &networking.ServiceEntry{Hosts: []string{e.host()}, Resolution: networking.ServiceEntry_NONE}
	if h := e.host(); e.IntN(4) == 0 && h != s.Hosts[0] {
		s.Hosts = append(s.Hosts, h)
	}
	for _, p := range []*networking.ServicePort{
		{Number: 80, Name: "http", Protocol: "HTTP"}, {Number: 81, Name: "grpc", Protocol: "GRPC"},
		{Number: 443, Name: "tls", Protocol: "TLS"}, {Number: 444, Name: "https", Protocol: "HTTPS"},
		{Number: 9000, Name: "tcp", Protocol: "TCP"}, {Number: 80, Name: "auto"}, {Number: 9001, Name: "any"},
	} {
		if e.IntN(3) == 0 {
			s.Ports = append(s.Ports, p)
		}
	}
	if len(s.Ports) == 0 {
		s.Ports = []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}}
	}
	if e.IntN(3) == 0 {
		s.Addresses = []string{pick(e, "192.0.2.1", "192.0.2.2", "198.51.100.0/24", "2001:db8::1")}
	}
	if !mesh.IsWildcard(s.Hosts[0]) {
		s.Resolution = pick(e, networking.ServiceEntry_NONE, networking.ServiceEntry_DNS, networking.ServiceEntry_STATIC)
	}
	if s.Resolution == networking.ServiceEntry_STATIC {
		s.Endpoints = []*networking.WorkloadEntry{{
			Address: fmt.Sprintf("203.0.113.%d", e.IntN(200)+1), Labels: map[string]string{"v": pick(e, "1", "2")},
		}}
	}
	if e.IntN(5) == 0 {
		s.ExportTo = []string{pick(e, ".", "other", "*")}
	}
	return &istioapi.ServiceEntry{Meta: e.meta("ServiceEntry"), Spec: s}
}

func (e *edits) peerAuthentication() istioapi.Object {
	mode := func() *security.PeerAuthentication_MutualTLS {
		return &security.PeerAuthentication_MutualTLS{Mode: security.PeerAuthentication_MutualTLS_Mode(e.IntN(4))}
	}
	p := &security.PeerAuthentication{Mtls: mode()}
	if e.IntN(2) == 0 {
		p.Selector = &v1beta1.WorkloadSelector{MatchLabels: map[string]string{pick(e, "app", "v"): pick(e, "test", "1")}}
		p.PortLevelMtls = map[uint32]*security.PeerAuthentication_MutualTLS{pick(e, uint32(8080), 9000, 7000): mode()}
	}
	return &istioapi.PeerAuthentication{Meta: e.meta("PeerAuthentication"), Spec: p}
}

func (e *edits) destination() *networking.Destination {
	d := &networking.Destination{Host: e.host(), Subset: pick(e, "", "", "one")}
	if e.IntN(2) == 0 {
		d.Port = &networking.PortSelector{Number: pick(e, uint32(80), uint32(443))}
	}
	return d
}

func (e *edits) virtualService() istioapi.Object {
	v := &networking.VirtualService{Hosts: []string{e.host()}}
	if e.IntN(3) == 0 {
		v.Hosts = append(v.Hosts, e.host())
	}
	if e.IntN(4) != 0 {
		r := &networking.HTTPRoute{Route: []*networking.HTTPRouteDestination{{Destination: e.destination()}}}
		if e.IntN(3) == 0 {
			r.Match = []*networking.HTTPMatchRequest{{SourceLabels: map[string]string{"app": pick(e, "test", "else")}}}
		}
		v.Http = append(v.Http, r)
	}
	if e.IntN(3) == 0 {
		v.Tls = append(v.Tls, &networking.TLSRoute{
			Match: []*networking.TLSMatchAttributes{{Port: pick(e, uint32(0), uint32(443)), SniHosts: v.Hosts}},
			Route: []*networking.RouteDestination{{Destination: e.destination()}},
		})
	}
	if e.IntN(4) == 0 {
		v.Tcp = append(v.Tcp, &networking.TCPRoute{Route: []*networking.RouteDestination{{Destination: e.destination()}}})
	}
	if e.IntN(6) == 0 {
		v.ExportTo = []string{"."}
	}
	return &istioapi.VirtualService{Meta: e.meta("VirtualService"), Spec: v}
}

func (e *edits) destinationRule() istioapi.Object {
	d := &networking.DestinationRule{Host: e.host()}
	d.TrafficPolicy = pick(e, nil, &networking.TrafficPolicy{
		Tls: &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_SIMPLE, Sni: e.host()},
	}, &networking.TrafficPolicy{LoadBalancer: &networking.LoadBalancerSettings{LbPolicy: &networking.LoadBalancerSettings_ConsistentHash{
		ConsistentHash: &networking.LoadBalancerSettings_ConsistentHashLB{
			HashKey: &networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName{HttpHeaderName: pick(e, "x", "y")},
		},
	}}})
	if e.IntN(2) == 0 {
		d.Subsets = []*networking.Subset{{Name: "one", Labels: map[string]string{"v": "1"}}}
	}
	return &istioapi.DestinationRule{Meta: e.meta("DestinationRule"), Spec: d}
}

func (e *edits) sidecar() istioapi.Object {
	s := &networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{pick(e, "*/*", "./*", "*/*.example.com", "other/*", "*/a.example.com")}}}}
	if e.IntN(3) == 0 {
		s.Egress = append([]*networking.IstioEgressListener{{
			Port:  &networking.SidecarPort{Number: 80, Name: "http", Protocol: "HTTP"},
			Hosts: []string{"*/*.test"},
		}}, s.Egress...)
	}
	if e.IntN(2) == 0 {
		s.OutboundTrafficPolicy = &networking.OutboundTrafficPolicy{Mode: networking.OutboundTrafficPolicy_ALLOW_ANY}
	}
	return &istioapi.Sidecar{Meta: e.meta("Sidecar"), Spec: s}
}
