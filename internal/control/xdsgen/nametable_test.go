package xdsgen

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

func TestNameTable(t *testing.T) {
	g := world{
		yaml: gateHosts + `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: range, namespace: default}
spec: {hosts: [range.example], addresses: [198.51.100.0/24], ports: [{number: 5, name: tcp, protocol: TCP}], resolution: NONE}
`, options: mesh.Options{BuiltIn: []*mesh.Service{egressService()}},
	}.generate(t, captured())
	got := g.names(t)
	want := NameInfo{IPs: []string{"10.96.100.1"}, Registry: "Kubernetes", Shortname: "istio-egressgateway", Namespace: "istio-system"}
	if diff := cmp.Diff(want, got["istio-egressgateway.istio-system.svc.cluster.local"]); diff != "" {
		t.Errorf("the gateway's name (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(NameInfo{IPs: []string{"198.51.100.0/24"}, Registry: "External", Namespace: "default"}, got["range.example"]); diff != "" {
		t.Errorf("a name with a CIDR (-want +got):\n%s", diff)
	}
	if a := got["a.example"]; len(a.IPs) != 1 || a.IPs[0] == got["b.example"].IPs[0] {
		t.Errorf("a.example %v, b.example %v: want one address each", a, got["b.example"])
	}
}

func FuzzDecodeNameTable(f *testing.F) {
	f.Add(NameTable{"a.example": {IPs: []string{"240.240.0.1", "::1"}, Registry: "External", Shortname: "a", Namespace: "n"}, "*": {}}.Encode())
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := DecodeNameTable(data)
		if err != nil {
			return
		}
		again, err := DecodeNameTable(table.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(table.Encode(), again.Encode()) {
			t.Errorf("%v became %v", table, again)
		}
	})
}
