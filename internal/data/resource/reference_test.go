package resource_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

// What a stock istiod sends decodes without an error, and says what it should.
func TestReference(t *testing.T) {
	for _, policy := range []string{"registry_only", "allow_any"} {
		for _, node := range []string{"sidecar", "egressgateway"} {
			t.Run(policy+"/"+node, func(t *testing.T) {
				rec := resourcetest.Reference(t, policy, node)
				skipped := map[string]int{}
				d := resource.Decoder{Skipped: func(f string) { skipped[f]++ }}
				decodeAll(t, rec.Listeners, d.Listener)
				decodeAll(t, rec.Routes, d.RouteConfiguration)
				decodeAll(t, rec.Clusters, d.Cluster)
				decodeAll(t, rec.Endpoints, d.Endpoints)
				for _, want := range []string{"envoy.config.cluster.v3.Cluster.alt_stat_name", "envoy.tcp.metadataexchange.config.MetadataExchange"} {
					if skipped[want] == 0 {
						t.Errorf("%s is not told as skipped: %v", want, skipped)
					}
				}
			})
		}
	}
}

func decodeAll[T any](t *testing.T, list []*anypb.Any, decode func(*anypb.Any) (*T, error)) []*T {
	t.Helper()
	if len(list) == 0 {
		t.Fatalf("nothing recorded for %T", *new(T))
	}
	var out []*T
	for _, a := range list {
		r, err := decode(a)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		out = append(out, r)
	}
	return out
}

func TestReferenceDetails(t *testing.T) {
	rec := resourcetest.Reference(t, "registry_only", "sidecar")
	listeners := map[string]*resource.Listener{}
	for _, l := range decodeAll(t, rec.Listeners, resource.DecodeListener) {
		listeners[l.Name] = l
	}
	l := listeners["0.0.0.0_80"]
	if l.Address != netip.MustParseAddrPort("0.0.0.0:80") || l.BindToPort || !l.InspectHTTP || l.InspectTLS || !l.ContinueOnTimeout || l.InspectorsTimeout != 0 || l.Direction != resource.DirectionOutbound {
		t.Errorf("0.0.0.0_80: %+v", l)
	}
	h := l.FilterChains[0].HTTP
	if h.RouteConfigName != "80" || h.UseRemoteAddress || !h.NormalizePath || !h.Proxy100Continue || h.StreamIdleTimeout != 0 || !h.GenerateRequestID || h.ServerName != "envoy" || h.ForwardClientCert != resource.ClientCertSanitize {
		t.Errorf("connection manager: %+v", h)
	}
	if diff := cmp.Diff([]string{"websocket"}, h.UpgradeTypes); diff != "" {
		t.Error(diff)
	}
	if len(h.AccessLogs) != 1 || h.AccessLogs[0].Path != "/dev/stdout" || h.AccessLogs[0].Text == "" {
		t.Errorf("access logs: %+v", h.AccessLogs)
	}
	v := listeners["virtualOutbound"]
	if !v.UseOriginalDst || !v.BindToPort || v.AccessLogs[0].Filter == nil || !cmp.Equal(v.AccessLogs[0].Filter.ResponseFlags, []string{"NR"}) {
		t.Errorf("virtualOutbound: %+v", v)
	}
	in := listeners["virtualInbound"]
	if tls, http := in.Inspectors(15006); tls || http {
		t.Error("inspectors are on for 15006, where filter_disabled says they are off")
	}
	if tls, http := in.Inspectors(80); !tls || !http {
		t.Error("inspectors are off for 80")
	}
	clusters := map[string]*resource.Cluster{}
	for _, c := range decodeAll(t, rec.Clusters, resource.DecodeCluster) {
		clusters[c.Name] = c
	}
	checkReferenceClusters(t, clusters)
}

func checkReferenceClusters(t *testing.T, clusters map[string]*resource.Cluster) {
	c := clusters["outbound|80|wikipedia|istio-egressgateway.istio-system.svc.cluster.local"]
	if c.Discovery != resource.DiscoveryEDS || c.EDSServiceName != c.Name || c.ConnectTimeout != 10*time.Second || c.LB != resource.LBLeastRequest || c.Breakers[resource.PriorityDefault].MaxConnections != resource.NoLimit {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]resource.Object{{Kind: "DestinationRule", Namespace: "default", Name: "egressgateway-for-wikipedia"}}, c.Objects); diff != "" {
		t.Error(diff)
	}
	if len(c.TLSMatches) != 2 || c.TLSMatches[0].TLS == nil || !slices.Equal(c.TLSMatches[0].TLS.Secrets(), []string{"default", "ROOTCA"}) || c.TLSMatches[0].TLS.Unsupported != "" || c.TLSMatches[0].Labels["tlsMode"] != "istio" || c.TLSMatches[1].TLS != nil {
		t.Errorf("transport socket matches: %+v", c.TLSMatches)
	}
	dns := clusters["outbound|443||www.wikipedia.org"]
	if dns.Discovery != resource.DiscoveryStrictDNS || !dns.RespectDNSTTL || dns.DNSRefresh != time.Minute || dns.DNSFamily != resource.DNSV4Only {
		t.Errorf("%+v", dns)
	}
	if e := dns.Endpoints.Localities[0].Endpoints[0]; e.Host != "www.wikipedia.org" || e.Port != 443 || e.Address.IsValid() || e.Weight != 1 {
		t.Errorf("%+v", e)
	}
	if pass := clusters["PassthroughCluster"]; pass.Discovery != resource.DiscoveryOriginalDst || pass.LB != resource.LBClusterProvided || pass.UpstreamIdleTimeout != 5*time.Minute || pass.Protocol != resource.UpstreamDownstream {
		t.Errorf("%+v", pass)
	}
	if in := clusters["InboundPassthroughCluster"]; in.SourceFor(netip.MustParseAddr("10.0.0.5")) != netip.MustParseAddr("127.0.0.6") {
		t.Errorf("%+v", in)
	}
}

func BenchmarkCluster(b *testing.B) {
	rec := resourcetest.Reference(b, "registry_only", "sidecar")
	for b.Loop() {
		for _, a := range rec.Clusters {
			if _, err := resource.DecodeCluster(a); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(rec.Clusters)), "µs/cluster")
}

func BenchmarkListener(b *testing.B) {
	rec := resourcetest.Reference(b, "registry_only", "sidecar")
	for b.Loop() {
		if _, err := resource.DecodeListener(rec.Listeners[0]); err != nil {
			b.Fatal(err)
		}
	}
}
