package xdsgen

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// The differences by design to what a stock istiod generates. Every other difference
// fails the test.
var (
	// keys left out wherever they stand, because:
	omittedKeys = []string{
		"tracing",                // there is none
		"filters[cluster]",       // istio.metadata_exchange, which is not in chains either
		"altStatName",            // names of Envoy's own statistics
		"commonLbConfig",         // empty
		"typedDnsResolverConfig", // how Envoy itself resolves
		"metadata[lbEndpoint]",   // "workload": telemetry of the mesh
	}
	// HTTP filters that are there in both.
	keptHTTPFilters = []string{"envoy.filters.http.router"}
)

func TestAgreesWithIstio(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "istio-reference")
	lab, err := os.ReadFile(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Skipf("no recorded resources: %v", err)
	}
	kinds := map[string]string{
		"listeners": xds.ListenerType, "routes": xds.RouteType, "clusters": xds.ClusterType, "endpoints": xds.EndpointType,
	}
	for policy, mode := range map[string]mesh.Mode{"registry_only": mesh.RegistryOnly, "allow_any": mesh.AllowAny} {
		w := world{yaml: string(lab), options: mesh.Options{DefaultPolicy: mode, AccessLogFile: "/dev/stdout", Pods: true}}
		t.Run(policy+"/service", func(t *testing.T) { agreesAsService(t, w) })
		for name, node := range map[string]mesh.Node{"sidecar": sidecarNode, "egressgateway": gatewayNode} {
			raw, err := Generate(w.snapshot(t), node)
			if err != nil {
				t.Fatal(err)
			}
			for file, typeURL := range kinds {
				t.Run(policy+"/"+name+"/"+file, func(t *testing.T) {
					want := recorded(t, filepath.Join(dir, policy, name, file+".json"))
					got := trees(t, raw[typeURL])
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("resources differ (-istiod +egret):\n%s", diff)
					}
				})
			}
		}
	}
}

// agreesAsService: the egress gateway's service, which the recording has as a ServiceEntry,
// gives the same as a Service of Kubernetes, but for the object that it is said to be of.
func agreesAsService(t *testing.T, w world) {
	as := w
	_, as.yaml, _ = strings.Cut(w.yaml, "\n---\n")
	service := kubeService("istio-system", "istio-egressgateway", "10.96.100.1",
		[]mesh.Port{kubePort(80, 8080, "http"), kubePort(443, 8443, "https")},
		kubeEndpoint("10.244.0.20", map[string]uint32{"http": 8080, "https": 8443}, gatewayNode.Labels))
	service.Selector, service.Endpoints[0].Locality = gatewayNode.Labels, ""
	as.options.BuiltIn = []*mesh.Service{service}
	gateway := gatewayNode
	gateway.Addresses = parseAddresses("10.244.0.20")
	for name, node := range map[string]mesh.Node{"sidecar": sidecarNode, "egressgateway": gateway} {
		want, got := w.generate(t, node).raw, as.generate(t, node).raw
		for typeURL := range want {
			if typeURL == xds.NameTableType {
				continue
			}
			text, err := json.Marshal(trees(t, want[typeURL]))
			if err != nil {
				t.Fatal(err)
			}
			host := `"host":"` + service.Host + `","name":"`
			text = []byte(strings.ReplaceAll(string(text), host+service.Host, host+"istio-egressgateway"))
			var renamed map[string]any
			if err := json.Unmarshal(text, &renamed); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(renamed, trees(t, got[typeURL])); diff != "" {
				t.Errorf("%s %s (-entry +service):\n%s", name, typeURL, diff)
			}
		}
	}
}

// recorded reads istiod's resources by name, without the differences by design.
func recorded(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, r := range list {
		name, _ := r["name"].(string)
		if name == "" {
			name, _ = r["clusterName"].(string)
		}
		out[name] = prune(r, "")
	}
	return out
}

// trees are our resources as JSON, without provenance of our own.
func trees(t *testing.T, resources map[string]xds.Resource) map[string]any {
	t.Helper()
	out := map[string]any{}
	for name, r := range resources {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(text, &tree); err != nil {
			t.Fatal(err)
		}
		out[name] = prune(tree, "")
	}
	return out
}

// prune removes the differences by design; in is the key under which v stands.
func prune(v any, in string) any {
	switch v := v.(type) {
	case []any:
		var out []any
		for _, e := range v {
			if m, ok := e.(map[string]any); ok && in == "httpFilters" && !slices.Contains(keptHTTPFilters, m["name"].(string)) {
				continue
			}
			if m, ok := e.(map[string]any); ok && in == "filters" && m["name"] == "istio.metadata_exchange" {
				continue // nothing is exchanged about peers, so it is not offered by ALPN either
			}
			if in == "alpnProtocols" && strings.HasPrefix(e.(string), "istio") {
				// No peer exchange; the versions of HTTP are added by istio.alpn to each request,
				// and by us in the cluster.
				if e = any("istio"); slices.Contains(out, e) {
					continue
				}
			}
			out = append(out, prune(e, in))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for key, e := range v {
			_, isCluster := v["connectTimeout"]
			_, isEndpoint := v["endpoint"]
			switch {
			case slices.Contains(omittedKeys, key),
				key == "filters" && isCluster && slices.Contains(omittedKeys, "filters[cluster]"),
				key == "metadata" && isEndpoint && slices.Contains(omittedKeys, "metadata[lbEndpoint]"),
				key == "egret" && in == "filterMetadata":
				continue
			}
			p := prune(e, key)
			if m, ok := p.(map[string]any); ok && len(m) == 0 && (key == "filterMetadata" || key == "metadata") {
				continue // nothing but our own provenance
			}
			out[key] = p
		}
		return out
	}
	return v
}
