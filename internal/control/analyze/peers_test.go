package analyze

import (
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// In a cluster a rule that leaves out the TLS that servers insist on is told about.
func TestRulesAgainstStrictServers(t *testing.T) {
	const peers = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n---\n"
	rule := func(namespace, policy string) string {
		return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: default}\nspec: {host: web." + namespace + ".svc.cluster.local, trafficPolicy: " + policy + "}\n"
	}
	services := []*mesh.Service{
		{Host: "web.shop.svc.cluster.local", Namespace: "shop", Registry: mesh.RegistryKubernetes},
		{Host: "web.open.svc.cluster.local", Namespace: "open", Registry: mesh.RegistryKubernetes},
	}
	for name, c := range map[string]struct {
		yaml string
		want bool
	}{
		"DISABLE":                        {peers + rule("shop", "{tls: {mode: DISABLE}}"), true},
		"SIMPLE":                         {peers + rule("shop", "{tls: {mode: SIMPLE}}"), true},
		"ISTIO_MUTUAL":                   {peers + rule("shop", "{tls: {mode: ISTIO_MUTUAL}}"), false},
		"no TLS":                         {peers + rule("shop", "{loadBalancer: {simple: RANDOM}}"), false},
		"a namespace that does not":      {peers + rule("open", "{tls: {mode: DISABLE}}"), false},
		"without the PeerAuthentication": {rule("shop", "{tls: {mode: DISABLE}}"), false},
	} {
		objects, problems := istioapi.Rules{Pods: true}.Decode("f.yaml", []byte(c.yaml))
		for _, p := range problems {
			if p.Severity == istioapi.Error {
				t.Fatal(p)
			}
		}
		found := slices.ContainsFunc(InCluster(objects, mesh.Options{BuiltIn: services, Pods: true}), func(p istioapi.Problem) bool {
			return p.Code == CodeMutualTLSRequired && p.Object.Kind == "DestinationRule" && strings.Contains(p.Message, "strict")
		})
		if found != c.want {
			t.Errorf("%s: told: %t", name, found)
		}
	}
}
