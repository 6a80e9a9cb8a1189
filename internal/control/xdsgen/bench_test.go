package xdsgen

import (
	"fmt"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// manyEntries are n ServiceEntries with HTTP on 80 and HTTPS on 443, by DNS.
func manyEntries(n int) istioapi.Objects {
	var out istioapi.Objects
	for i := range n {
		out.ServiceEntries = append(out.ServiceEntries, &istioapi.ServiceEntry{
			Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "ServiceEntry", Namespace: "default", Name: fmt.Sprintf("e%d", i)}, Order: i},
			Spec: &networking.ServiceEntry{
				Hosts: []string{fmt.Sprintf("host-%d.example.com", i)},
				Ports: []*networking.ServicePort{
					{Number: 80, Name: "http", Protocol: "HTTP"}, {Number: 443, Name: "https", Protocol: "HTTPS"},
				},
				Resolution: networking.ServiceEntry_DNS,
			},
		})
	}
	return out
}

func BenchmarkGenerate(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		s, _ := mesh.New(manyEntries(n), mesh.Options{AccessLogFile: "/dev/stdout"})
		for name, node := range map[string]mesh.Node{"captured": captured(), "plain": sidecarNode} {
			b.Run(fmt.Sprintf("%s-%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Generate(s, node); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		objects := manyEntries(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mesh.New(objects, mesh.Options{})
			}
		})
	}
}
