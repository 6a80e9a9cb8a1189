package decide_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

const viaGateway = "outbound|80|wikipedia|istio-egressgateway.istio-system.svc.cluster.local"

// outcome is a decision in short: the cluster, or why not.
type outcome struct {
	Cluster string
	Reason  reason.Reason
	Status  int
}

// judge follows a connection, and on an HTTP chain one request, to its decision.
func judge(t *testing.T, cfg *config.Config, accepted *resource.Listener, c *decide.Conn, authority string) (outcome, string) {
	t.Helper()
	plan := decide.Connection(cfg, accepted, c)
	if plan.Verdict == decide.Deny {
		return outcome{Reason: plan.Reason}, plan.Detail
	}
	if plan.Chain.HTTP == nil {
		return outcome{Cluster: decide.PickCluster(plan.Clusters, 7).Name}, ""
	}
	rp := decide.Route(cfg, plan.Chain.HTTP, &decide.Request{Method: "GET", Scheme: "http", Authority: authority, Path: "/", Headers: headers{}, Conn: c})
	if rp.Verdict == decide.Deny {
		return outcome{Reason: rp.Reason, Status: rp.Status}, rp.Detail
	}
	return outcome{Cluster: decide.PickCluster(rp.Route.Forward.Clusters, 7).Name}, ""
}

// The lab's decisions, from exactly what a stock istiod sends.
func TestReferenceSidecar(t *testing.T) {
	none := decide.Binding{}
	configs := map[string]*config.Config{}
	for _, policy := range []string{"registry_only", "allow_any"} {
		configs[policy] = build(t, resourcetest.Reference(t, policy, "sidecar"), nil)
	}
	for _, tc := range []struct {
		name          string
		conn          *decide.Conn
		authority     string
		registry, any outcome
	}{
		{"wikipedia goes through the gateway", httpConn("198.51.100.7:80", none), "www.wikipedia.org",
			outcome{Cluster: viaGateway}, outcome{Cluster: viaGateway}},
		{"wikipedia with port and capitals", httpConn("198.51.100.7:80", none), "WWW.Wikipedia.org:80",
			outcome{Cluster: viaGateway}, outcome{Cluster: viaGateway}},
		{"google", httpConn("198.51.100.8:80", none), "www.google.com",
			outcome{Reason: reason.NotInRegistry, Status: 502}, outcome{Cluster: "PassthroughCluster"}},
		{"address as host", httpConn("198.51.100.8:80", none), "198.51.100.8",
			outcome{Reason: reason.AddressNotInRegistry, Status: 502}, outcome{Cluster: "PassthroughCluster"}},
		{"the gateway by its address", httpConn("10.96.100.1:80", none), "10.96.100.1",
			outcome{Cluster: "outbound|80||istio-egressgateway.istio-system.svc.cluster.local"},
			outcome{Cluster: "outbound|80||istio-egressgateway.istio-system.svc.cluster.local"}},
		{"no HTTP on port 80", tcpConn("198.51.100.8:80", none), "",
			outcome{Reason: reason.AddressNotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"SNI wikipedia", tlsConn("198.51.100.7:443", "www.wikipedia.org", none), "",
			outcome{Cluster: "outbound|443||www.wikipedia.org"}, outcome{Cluster: "outbound|443||www.wikipedia.org"}},
		{"SNI google", tlsConn("198.51.100.8:443", "www.google.com", none), "",
			outcome{Reason: reason.NotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"TLS without SNI", tlsConn("198.51.100.8:443", "", none), "",
			outcome{Reason: reason.AddressNotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"the gateway's address on 443", tlsConn("10.96.100.1:443", "www.google.com", none), "",
			outcome{Cluster: "outbound|443||istio-egressgateway.istio-system.svc.cluster.local"},
			outcome{Cluster: "outbound|443||istio-egressgateway.istio-system.svc.cluster.local"}},
		{"another port", tcpConn("198.51.100.8:5432", none), "",
			outcome{Reason: reason.AddressNotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"HTTP for wikipedia on another port", httpConn("198.51.100.7:8080", none), "www.wikipedia.org",
			outcome{Reason: reason.AddressNotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"the proxy's own port", tcpConn("127.0.0.1:15001", none), "",
			outcome{Reason: reason.SelfCall}, outcome{Reason: reason.SelfCall}},
		{"the inbound listener's port", tcpConn("198.51.100.8:15006", none), "",
			outcome{Reason: reason.AddressNotInRegistry}, outcome{Cluster: "PassthroughCluster"}},
		{"IPv6 has the same rules", httpConn("[2001:db8::8]:80", none), "www.google.com",
			outcome{Reason: reason.NotInRegistry, Status: 502}, outcome{Cluster: "PassthroughCluster"}},
	} {
		for policy, want := range map[string]outcome{"registry_only": tc.registry, "allow_any": tc.any} {
			t.Run(policy+"/"+tc.name, func(t *testing.T) {
				cfg := configs[policy]
				got, detail := judge(t, cfg, cfg.Listener("virtualOutbound"), tc.conn, tc.authority)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if want.Reason != "" && detail == "" {
					t.Error("no detail")
				}
			})
		}
	}
}

func TestReferenceGateway(t *testing.T) {
	for _, policy := range []string{"registry_only", "allow_any"} {
		cfg := build(t, resourcetest.Reference(t, policy, "egressgateway"), nil)
		accepted := cfg.BoundListener(addrPort("10.244.0.20:80"))
		if accepted == nil {
			t.Fatal("no listener on port 80")
		}
		for authority, want := range map[string]outcome{
			"www.wikipedia.org": {Cluster: "outbound|80||www.wikipedia.org"},
			"www.google.com":    {Reason: reason.NoRoute, Status: 404},
		} {
			got, _ := judge(t, cfg, accepted, httpConn("10.244.0.20:80", decide.Binding{}), authority)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s: %s", policy, authority, diff)
			}
		}
	}
}

func TestReferenceExplains(t *testing.T) {
	cfg := build(t, resourcetest.Reference(t, "registry_only", "sidecar"), nil)
	accepted := cfg.Listener("virtualOutbound")
	c := httpConn("198.51.100.8:80", decide.Binding{})
	_, detail := judge(t, cfg, accepted, c, "www.google.com")
	const want = "www.google.com is not in the registry (outboundTrafficPolicy REGISTRY_ONLY); a ServiceEntry with host www.google.com and port 80 (HTTP) would allow it"
	if detail != want {
		t.Errorf("got  %s\nwant %s", detail, want)
	}
	plan := decide.Connection(cfg, accepted, c)
	if plan.Listener.Name != "0.0.0.0_80" {
		t.Errorf("listener %s", plan.Listener.Name)
	}
	rp := decide.Route(cfg, plan.Chain.HTTP, &decide.Request{Method: "GET", Scheme: "http", Authority: "www.wikipedia.org", Path: "/", Conn: c})
	if diff := cmp.Diff([]resource.Object{
		{Kind: "VirtualService", Namespace: "default", Name: "wikipedia-egress-gateway"},
		{Kind: "DestinationRule", Namespace: "default", Name: "egressgateway-for-wikipedia"},
	}, rp.Objects(cfg)); diff != "" {
		t.Error(diff)
	}
	if rp.RouteConfig.Name != "80" || rp.VirtualHost.Name != "www.wikipedia.org:80" {
		t.Errorf("%s %s", rp.RouteConfig.Name, rp.VirtualHost.Name)
	}
	tls, http, timeout := decide.Inspect(cfg, accepted, addrPort("198.51.100.8:443"))
	if !tls || http || timeout != 0 {
		t.Errorf("inspect 443: %v %v %v", tls, http, timeout)
	}
	if tls, http, _ = decide.Inspect(cfg, accepted, addrPort("198.51.100.8:80")); tls || !http {
		t.Errorf("inspect 80: %v %v", tls, http)
	}
	in := decide.Connection(cfg, cfg.Listener("virtualInbound"), &decide.Conn{Source: addrPort("10.0.0.9:40000"), Destination: addrPort("10.0.0.5:80"), Transport: "tls", Application: []string{"istio"}})
	if in.Reason != "" || in.Chain == nil || in.Chain.TLS == nil || len(in.Chain.TLS.Certificates) != 1 || in.Chain.TLS.Certificates[0].Secret != "default" {
		t.Errorf("inbound mutual TLS must be ended with the mesh's own certificates: %+v", in)
	}
}

// Forwarding a request costs no allocation.
func TestRouteAllocatesNothing(t *testing.T) {
	cfg := build(t, resourcetest.Reference(t, "registry_only", "sidecar"), nil)
	c := httpConn("240.240.0.1:80", decide.Binding{Name: "www.wikipedia.org", Strict: true})
	hcm := decide.Connection(cfg, cfg.Listener("virtualOutbound"), c).Chain.HTTP
	r := &decide.Request{Method: "GET", Scheme: "http", Authority: "www.wikipedia.org:80", Path: "/wiki/Egret?x=1", Conn: c, Headers: headers{}}
	var verdict decide.Verdict
	n := testing.AllocsPerRun(200, func() {
		plan := decide.Route(cfg, hcm, r)
		verdict = plan.Verdict
		decide.PickCluster(plan.Route.Forward.Clusters, 3)
	})
	if verdict != decide.Forward || n != 0 {
		t.Errorf("verdict %v, %v allocations", verdict, n)
	}
}
