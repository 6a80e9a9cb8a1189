package mesh

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// peers decodes PeerAuthentications, the first of which is the newest.
func peers(t *testing.T, list ...string) istioapi.Objects {
	t.Helper()
	if len(list) == 0 {
		return istioapi.Objects{}
	}
	head := "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
	objects, problems := istioapi.Rules{Pods: true}.Decode("f.yaml", []byte(head+strings.Join(list, "\n---\n"+head)))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, p := range objects.PeerAuthentications {
		p.Created = time.Unix(int64(100-i), 0)
	}
	return objects
}

func TestPeerPolicy(t *testing.T) {
	const (
		meshStrict  = "metadata: {name: all, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}"
		meshUnset   = "metadata: {name: all, namespace: istio-system}\nspec: {}"
		rootSelects = "metadata: {name: root-web, namespace: istio-system}\nspec: {selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}"
		nsDisable   = "metadata: {name: shop, namespace: shop}\nspec: {mtls: {mode: DISABLE}}"
		nsStrict    = "metadata: {name: newer, namespace: shop}\nspec: {mtls: {mode: STRICT}}"
		nsUnset     = "metadata: {name: shop, namespace: shop}\nspec: {mtls: {mode: UNSET}}"
		webPorts    = "metadata: {name: web, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}, 9090: {}}}"
		webStrict   = "metadata: {name: web-new, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}, 9090: {}}}"
		otherNs     = "metadata: {name: else, namespace: elsewhere}\nspec: {mtls: {mode: DISABLE}}"
	)
	const permissive, strict, disable = MutualTLSPermissive, MutualTLSStrict, MutualTLSDisable
	ports := func(p8080, p9090 MutualTLS) map[uint32]MutualTLS {
		return map[uint32]MutualTLS{8080: p8080, 9090: p9090}
	}
	for name, c := range map[string]struct {
		objects []string
		mode    MutualTLS
		ports   map[uint32]MutualTLS
		of      string
	}{
		"none":                                   {nil, permissive, nil, ""},
		"of other namespaces":                    {[]string{otherNs}, permissive, nil, ""},
		"the mesh's":                             {[]string{meshStrict}, strict, nil, "all"},
		"the mesh's sets nothing":                {[]string{meshUnset}, permissive, nil, "all"},
		"a selector in the root namespace":       {[]string{rootSelects, meshStrict}, strict, nil, "all"},
		"the namespace's goes before the mesh's": {[]string{meshStrict, nsDisable}, disable, nil, "all shop"},
		"the namespace's sets nothing":           {[]string{meshStrict, nsUnset}, strict, nil, "all shop"},
		"the oldest of a namespace":              {[]string{nsStrict, nsDisable}, disable, nil, "shop"},
		"ports of a workload":                    {[]string{nsStrict, webPorts}, strict, ports(disable, strict), "newer web"},
		"the oldest of a workload":               {[]string{webStrict, webPorts}, permissive, ports(disable, permissive), "web"},
		"the workload's goes before all":         {[]string{meshUnset, nsDisable, webStrict}, strict, ports(permissive, strict), "all shop web-new"},
	} {
		s, _ := New(peers(t, c.objects...), Options{Pods: true})
		got := s.PeerPolicy("shop", map[string]string{"app": "web", "version": "v1"})
		var of []string
		for _, o := range got.Objects {
			of = append(of, o.Name)
		}
		if got.Mode != c.mode || !maps.Equal(got.Ports, c.ports) || strings.Join(of, " ") != c.of {
			t.Errorf("%s: %v", name, got)
		}
	}
	s, _ := New(peers(t, webStrict, nsDisable), Options{Pods: true})
	other := s.PeerPolicy("shop", map[string]string{"app": "db"})
	if other.Mode != disable || other.Port(8080) != disable {
		t.Errorf("who is not selected: %v", other)
	}
	if !slices.Contains(s.LabelKeys(), "app") {
		t.Error("nodes that a selector tells apart would share a view")
	}
	if s, _ := New(peers(t, meshStrict), Options{}); s.PeerPolicy("shop", nil).Mode != permissive {
		t.Error("on one machine there is no mutual TLS to insist on")
	}
}

// A workload that takes no TLS on a port gets none there.
func TestEndpointsThatTakeMutualTLS(t *testing.T) {
	svc := &Service{Namespace: "shop"}
	web := map[string]string{"app": "web", "security.istio.io/tlsMode": "istio"}
	policy := "metadata: {name: web, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}"
	for name, c := range map[string]struct {
		policies []string
		endpoint Endpoint
		port     uint32
		want     bool
	}{
		"without a proxy":      {nil, Endpoint{Labels: map[string]string{}}, 8080, false},
		"with one":             {nil, Endpoint{Labels: web, MutualTLS: true}, 8080, true},
		"DISABLE for the port": {[]string{policy}, Endpoint{Labels: web, MutualTLS: true}, 8080, false},
		"another port":         {[]string{policy}, Endpoint{Labels: web, MutualTLS: true}, 80, true},
		"another workload":     {[]string{policy}, Endpoint{Labels: map[string]string{"app": "db"}, MutualTLS: true}, 8080, true},
		"another namespace":    {[]string{policy}, Endpoint{Labels: web, MutualTLS: true, Namespace: "bank"}, 8080, true},
	} {
		s, _ := New(peers(t, c.policies...), Options{Pods: true})
		if got := s.TakesMutualTLS(svc, &c.endpoint, c.port); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Workloads outside of the cluster have a proxy where their entry says so, or has an account.
func TestWorkloadEntriesThatTakeMutualTLS(t *testing.T) {
	objects, problems := istioapi.Rules{Pods: true}.Decode("f.yaml", []byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vms, namespace: shop}
spec:
  hosts: [vms.shop.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 192.0.2.1}
  - {address: 192.0.2.2, serviceAccount: vm}
  - {address: 192.0.2.3, labels: {security.istio.io/tlsMode: istio}}
  - {address: 192.0.2.4, labels: {security.istio.io/tlsMode: disabled}, serviceAccount: vm}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s, _ := New(objects, Options{Pods: true})
	var got []bool
	for _, e := range s.Services()[0].Endpoints {
		got = append(got, e.MutualTLS)
	}
	if diff := cmp.Diff([]bool{false, true, true, false}, got); diff != "" {
		t.Error(diff)
	}
}

func TestChangedPeersConcernAll(t *testing.T) {
	const strict, permissive = "metadata: {name: all, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}", "metadata: {name: all, namespace: istio-system}\nspec: {mtls: {mode: PERMISSIVE}}"
	build := func(list ...string) *Snapshot {
		s, _ := New(peers(t, list...), Options{Pods: true})
		return s
	}
	if c := Diff(build(strict), build(permissive)); !c.All {
		t.Errorf("another mode: %v", c)
	}
	if c := Diff(build(), build(strict)); !c.All {
		t.Errorf("the first object: %v", c)
	}
	if c := Diff(build(strict), build(strict)); !c.None() {
		t.Errorf("nothing has changed: %v", c)
	}
}
