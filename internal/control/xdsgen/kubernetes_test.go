package xdsgen

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// kubeService is a Service of Kubernetes as the informers give it; ports are
// "number:targetPort:name:transport".
func kubeService(namespace, name, clusterIP string, ports []mesh.Port, endpoints ...mesh.Endpoint) *mesh.Service {
	s := &mesh.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Registry: mesh.RegistryKubernetes,
		Source: istioapi.Ref{Kind: "Service", Namespace: namespace, Name: name}, Ports: ports,
		Resolution: mesh.ResolutionStatic, Endpoints: endpoints, Internal: true,
	}
	if clusterIP == "" {
		s.Headless = true
	} else {
		a := netip.MustParseAddr(clusterIP)
		s.Addresses = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	return s
}

func kubePort(number, target uint32, name string) mesh.Port {
	p := mesh.Port{Number: number, TargetPort: target, Name: name}
	p.Protocol, p.Declared = mesh.ServiceProtocol("TCP", "", name, number)
	return p
}

func kubeEndpoint(address string, ports map[string]uint32, labels map[string]string) mesh.Endpoint {
	return mesh.Endpoint{Address: address, Ports: ports, Labels: labels, Bound: true, Locality: "r1/z1"}
}

// cluster is a small cluster: what every one has, two applications, and a database.
func cluster() []*mesh.Service {
	gateway := kubeService("istio-system", "istio-egressgateway", "10.96.100.1",
		[]mesh.Port{kubePort(80, 8080, "http2"), kubePort(443, 8443, "https")},
		kubeEndpoint("10.244.0.20", map[string]uint32{"http2": 8080, "https": 8443}, map[string]string{"istio": "egressgateway"}))
	gateway.Selector = map[string]string{"istio": "egressgateway"}
	web := kubeService("default", "web", "10.96.7.7", []mesh.Port{kubePort(80, 0, "http")},
		kubeEndpoint("10.244.1.5", map[string]uint32{"http": 8000}, map[string]string{"app": "web", "version": "v1"}),
		kubeEndpoint("10.244.1.6", map[string]uint32{"http": 8001}, map[string]string{"app": "web", "version": "v2"}))
	web.Selector = map[string]string{"app": "web"}
	db := kubeService("data", "db", "", []mesh.Port{kubePort(5432, 5432, "tcp-db"), kubePort(8080, 8080, "http-admin")},
		kubeEndpoint("10.244.2.1", map[string]uint32{"tcp-db": 5432, "http-admin": 8080}, nil),
		kubeEndpoint("10.244.2.2", map[string]uint32{"tcp-db": 5432, "http-admin": 8080}, nil))
	db.Endpoints[0].Hostname = "db-0"
	return []*mesh.Service{
		kubeService("default", "kubernetes", "10.96.0.1", []mesh.Port{kubePort(443, 6443, "https")},
			kubeEndpoint("172.18.0.2", map[string]uint32{"https": 6443}, nil)),
		kubeService("kube-system", "kube-dns", "10.96.0.10", []mesh.Port{
			{Number: 53, TargetPort: 53, Name: "dns", Protocol: mesh.ProtocolUDP, Declared: "UDP"},
			kubePort(53, 53, "dns-tcp"), kubePort(9153, 9153, "metrics"),
		}, kubeEndpoint("10.244.0.3", map[string]uint32{"dns": 53, "dns-tcp": 53, "metrics": 9153}, nil)),
		gateway, web, db,
		{
			Host: "alias.default.svc.cluster.local", Namespace: "default", Registry: mesh.RegistryKubernetes,
			Source: istioapi.Ref{Kind: "Service", Namespace: "default", Name: "alias"}, ExternalName: "WEB.default.svc.cluster.local.",
		},
		{
			Host: "outside.default.svc.cluster.local", Namespace: "default", Registry: mesh.RegistryKubernetes,
			Source: istioapi.Ref{Kind: "Service", Namespace: "default", Name: "outside"}, ExternalName: "www.outside.example",
		},
	}
}

func TestServicesOfKubernetes(t *testing.T) {
	g := world{options: mesh.Options{BuiltIn: cluster(), Pods: true}}.generate(t, sidecarNode)
	g.check(t, []step{
		{call{to: "10.96.7.7:80", host: "web"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "web.default"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "web.default.svc"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "web.default.svc.cluster.local:80"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "10.96.7.7"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "web.other"}, "502"},
		// Another name of a service is the service; the name of something outside is not.
		{call{to: "10.96.7.7:80", host: "alias"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "10.96.7.7:80", host: "alias.default.svc.cluster.local"}, "outbound|80||web.default.svc.cluster.local"},
		{call{to: "1.1.1.1:80", host: "outside"}, "502"},
		{call{to: "1.1.1.1:80", host: "outside.default.svc.cluster.local"}, "502"},
		// The API server and the DNS by TCP, by address alone.
		{call{to: "10.96.0.1:443", sni: "kubernetes.default.svc"}, "outbound|443||kubernetes.default.svc.cluster.local"},
		{call{to: "10.96.0.1:443", sni: "-"}, "outbound|443||kubernetes.default.svc.cluster.local"},
		{call{to: "10.96.0.10:53"}, "outbound|53||kube-dns.kube-system.svc.cluster.local"},
		{call{to: "10.96.0.10:9153", host: "10.96.0.10"}, "outbound|9153||kube-dns.kube-system.svc.cluster.local"},
		{call{to: "10.96.0.11:53"}, "BlackHoleCluster"},
		// Headless: each endpoint's address, and by HTTP any name under the service.
		{call{to: "10.244.2.1:5432"}, "outbound|5432||db.data.svc.cluster.local"},
		{call{to: "10.244.2.2:5432"}, "outbound|5432||db.data.svc.cluster.local"},
		{call{to: "10.244.2.3:5432"}, "BlackHoleCluster"},
		{call{to: "10.244.2.1:8080", host: "db-0.db.data.svc.cluster.local"}, "outbound|8080||db.data.svc.cluster.local"},
		{call{to: "10.244.2.1:8080", host: "db.data"}, "outbound|8080||db.data.svc.cluster.local"},
		{call{to: "10.244.2.1:8080", host: "db"}, "502"}, // of another namespace
	})
	for name, want := range map[string]string{
		"outbound|80||web.default.svc.cluster.local":                      "EDS 10.244.1.5:8000 10.244.1.6:8001",
		"outbound|443||kubernetes.default.svc.cluster.local":              "EDS 172.18.0.2:6443",
		"outbound|5432||db.data.svc.cluster.local":                        "ORIGINAL_DST",
		"outbound|80||istio-egressgateway.istio-system.svc.cluster.local": "EDS 10.244.0.20:8080",
		"outbound|80||alias.default.svc.cluster.local":                    "none",
		"outbound|80||outside.default.svc.cluster.local":                  "none",
	} {
		if got := g.cluster(name); got != want {
			t.Errorf("cluster %s: got %q, want %q", name, got, want)
		}
	}
	if l := g.endpoints["outbound|80||web.default.svc.cluster.local"].GetEndpoints()[0].GetLocality(); l.GetRegion() != "r1" || l.GetZone() != "z1" {
		t.Errorf("the endpoints' locality is %v", l)
	}
	router := gatewayNode
	g = world{options: mesh.Options{BuiltIn: cluster(), Pods: true}}.generate(t, router)
	if got := g.cluster("outbound|5432||db.data.svc.cluster.local"); got != "EDS 10.244.2.1:5432 10.244.2.2:5432" {
		t.Errorf("a gateway's cluster of a headless service is %q", got)
	}
}

// Subsets of a Service are told apart by the labels of its pods.
func TestSubsetsOfPods(t *testing.T) {
	g := world{options: mesh.Options{BuiltIn: cluster(), Pods: true}, yaml: `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec:
  host: web
  subsets: [{name: two, labels: {version: v2}}]
`}.generate(t, sidecarNode)
	if got := g.cluster("outbound|80|two|web.default.svc.cluster.local"); got != "EDS 10.244.1.6:8001" {
		t.Errorf("the subset is %q", got)
	}
}

// A service that is exported to nobody else is not seen from elsewhere.
func TestExportOfServices(t *testing.T) {
	services := cluster()
	services[3].ExportTo = []string{"."}
	w := world{options: mesh.Options{BuiltIn: services, Pods: true}}
	other := sidecarNode
	other.Namespace = "other"
	if got := w.generate(t, sidecarNode).outcome(t, call{to: "10.96.7.7:80", host: "web"}); !strings.HasPrefix(got, "outbound|80||web") {
		t.Errorf("from its namespace: %s", got)
	}
	if got := w.generate(t, other).outcome(t, call{to: "10.96.7.7:80", host: "web.default"}); got != "502" {
		t.Errorf("from another: %s", got)
	}
}

func TestNamesOfServices(t *testing.T) {
	got := world{options: mesh.Options{BuiltIn: cluster(), Pods: true}}.generate(t, captured()).names(t)
	web := NameInfo{IPs: []string{"10.96.7.7"}, Registry: "Kubernetes", Shortname: "web", Namespace: "default"}
	for name, want := range map[string]NameInfo{
		"web.default.svc.cluster.local":     web,
		"alias.default.svc.cluster.local":   web,
		"outside.default.svc.cluster.local": {},
		"db.data.svc.cluster.local":         {IPs: []string{"10.244.2.1", "10.244.2.2"}, Registry: "Kubernetes", Shortname: "db", Namespace: "data"},
		"db-0.db.data.svc.cluster.local":    {IPs: []string{"10.244.2.1"}, Registry: "Kubernetes", Namespace: "data"},
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What a sidecar gets by name is what it gets in the whole.
func TestServicesOnDemand(t *testing.T) {
	w := world{options: mesh.Options{BuiltIn: cluster(), Pods: true}}
	snapshot := w.snapshot(t)
	node := captured()
	node.OnDemand = true
	b := newBuilder(snapshot, node, nil)
	if _, err := b.base(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"web": "web.default.svc.cluster.local:80", "web.default": "web.default.svc.cluster.local:80",
		"web.default.svc.cluster.local": "web.default.svc.cluster.local:80", "10.96.7.7": "web.default.svc.cluster.local:80",
		"alias": "web.default.svc.cluster.local:80", "alias.default": "web.default.svc.cluster.local:80",
		"db-0.db.data": "db.data.svc.cluster.local:8080", "db-1.db.data.svc.cluster.local": "db.data.svc.cluster.local:8080",
		"outside": "", "web.other": "",
	} {
		var hosts []string
		for _, r := range b.named(name).hosts {
			hosts = append(hosts, unpackAny[*routev3.VirtualHost](t, r.Body).GetName())
		}
		if got := strings.Join(hosts, " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	web := b.named("web.default.svc.cluster.local")
	if len(web.clusters) != 1 || len(web.endpoints) != 1 {
		t.Errorf("%d clusters, %d endpoints", len(web.clusters), len(web.endpoints))
	}
	if db := b.named("db-0.db.data.svc.cluster.local"); db.name.Body == nil {
		t.Error("a pod of a headless service has no name")
	}
}

// Pods come and go: that touches the service's names, and nothing that all sidecars have.
func TestEndpointsAreASmallChange(t *testing.T) {
	services := cluster()
	before := world{options: mesh.Options{BuiltIn: services, Pods: true}}.snapshot(t)
	after := func(at int, change func(s *mesh.Service)) mesh.Changes {
		next, s := slices.Clone(services), *services[at]
		change(&s)
		next[at] = &s
		snapshot, _ := mesh.New(istioapi.Objects{}, mesh.Options{BuiltIn: next, Pods: true, Previous: before})
		return mesh.Diff(before, snapshot)
	}
	if c := after(0, func(*mesh.Service) {}); !c.None() {
		t.Errorf("nothing changed: %+v", c)
	}
	for i, name := range map[int]string{0: "kubernetes.default.svc.cluster.local", 3: "web.default.svc.cluster.local"} {
		c := after(i, func(s *mesh.Service) {
			s.Endpoints = append(slices.Clone(s.Endpoints), kubeEndpoint("10.244.9.9", s.Endpoints[0].Ports, nil))
		})
		if c.All || c.Base || !slices.Contains(c.Keys, name) || slices.Contains(c.Keys, "kube-dns.kube-system.svc.cluster.local") {
			t.Errorf("an endpoint of %s: %+v", name, c)
		}
	}
	if c := after(4, func(s *mesh.Service) { s.Endpoints = s.Endpoints[:1] }); !c.Base {
		t.Errorf("a headless service listens by its endpoints: %+v", c)
	}
	if c := after(0, func(s *mesh.Service) { s.Ports = []mesh.Port{kubePort(6443, 6443, "https")} }); !c.Base {
		t.Errorf("another port: %+v", c)
	}
}
