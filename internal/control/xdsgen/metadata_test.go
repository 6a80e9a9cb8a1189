package xdsgen

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// objects of "egret" metadata, and the path of "istio".
func told(m *corev3.Metadata) (objects []string, config string) {
	for _, v := range m.GetFilterMetadata()["egret"].GetFields()["objects"].GetListValue().GetValues() {
		objects = append(objects, v.GetStringValue())
	}
	return objects, m.GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
}

func TestProvenance(t *testing.T) {
	w := world{yaml: serviceEntries + `
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: vs, namespace: default}
spec:
  hosts: [www.example.com]
  http: [{route: [{destination: {host: www.example.com, subset: s}}]}]
  tls: [{match: [{port: 443, sniHosts: [www.example.com]}], route: [{destination: {host: www.example.com}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr, namespace: default}
spec: {host: www.example.com, subsets: [{name: s}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
`, options: mesh.Options{AccessLogFile: "/dev/stdout"}}
	g := w.generate(t, sidecarNode)
	got := map[string][]string{}
	add := func(what string, m *corev3.Metadata) {
		objects, config := told(m)
		got[what] = append(objects, config)
	}
	add("listener", g.listeners["192.0.2.10_3306"].GetMetadata())
	add("chain", g.listeners["192.0.2.10_3306"].GetFilterChains()[0].GetMetadata())
	for _, c := range g.listeners["0.0.0.0_443"].GetFilterChains() {
		if c.GetFilterChainMatch().GetServerNames()[0] == "www.example.com" {
			add("tls chain", c.GetMetadata())
		}
	}
	add("cluster", g.clusters["outbound|80|s|www.example.com"].GetMetadata())
	for _, v := range g.routes["80"].GetVirtualHosts() {
		switch v.GetName() {
		case "www.example.com:80", "*.wild.example:80", "block_all":
			add("host "+v.GetName(), v.GetMetadata())
			add("route "+v.GetName(), v.GetRoutes()[0].GetMetadata())
		}
	}
	const (
		vs   = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/vs"
		dr   = "/apis/networking.istio.io/v1/namespaces/default/destination-rule/dr"
		web  = "ServiceEntry/default/web"
		wild = "ServiceEntry/default/wild"
	)
	policy, _ := told(g.listeners["0.0.0.0_443"].GetDefaultFilterChain().GetMetadata())
	if len(policy) != 1 {
		t.Fatalf("the default chain was made from %q, want the MeshConfig", policy)
	}
	want := map[string][]string{
		"listener":                 {"ServiceEntry/default/mysql", ""},
		"chain":                    {"ServiceEntry/default/mysql", ""},
		"tls chain":                {"VirtualService/default/vs", web, vs},
		"cluster":                  {web, "DestinationRule/default/dr", dr},
		"host www.example.com:80":  {"VirtualService/default/vs", web, ""},
		"route www.example.com:80": {"VirtualService/default/vs", vs},
		"host *.wild.example:80":   {wild, ""},
		"route *.wild.example:80":  {wild, ""},
		"host block_all":           {policy[0], ""},
		"route block_all":          {policy[0], ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("provenance (-want +got):\n%s", diff)
	}
}
