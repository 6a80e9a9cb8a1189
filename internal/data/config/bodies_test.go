package config_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// What was sent can be had again as it was, small or large, for as long as it counts.
func TestBodies(t *testing.T) {
	h := harnessWith(t, config.StoreOptions{KeepBodies: true})
	var hosts strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&hosts, `,{"name":"h%d","domains":["h%d.example.com"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c%d"}}]}`, i, i, i)
	}
	large := resourcetest.Route(t, `{"name":"80","virtualHosts":[`+hosts.String()[1:]+`]}`)
	small := staticCluster(t, "c")
	h.good(xds.ClusterType, bodies("c", small))
	h.good(xds.ListenerType, bodies("0.0.0.0_80", httpListener(t, "0.0.0.0_80", "0.0.0.0", 80, "80")))
	h.good(xds.RouteType, bodies("80", large))
	for typeURL, want := range map[string]proto.Message{xds.ClusterType: small, xds.RouteType: large} {
		all := h.Bodies(typeURL)
		if len(all) != 1 {
			t.Fatalf("%v", all)
		}
		if got, err := all[0].Any(typeURL); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s differs: %v", typeURL, err)
		}
	}
	h.apply(xds.ClusterType, []string{"c"}, nil)
	h.apply(xds.RouteType, []string{"80"}, nil)
	if len(h.Bodies(xds.ClusterType)) != 0 {
		t.Error("a removed cluster is still there")
	}
	if len(h.Bodies(xds.RouteType)) != 1 {
		t.Error("routes that a listener still names are gone")
	}
	h.apply(xds.ListenerType, []string{"0.0.0.0_80"}, nil)
	if len(h.Bodies(xds.RouteType)) != 0 {
		t.Error("routes that nobody names are still there")
	}
}

// Only a proxy with an admin interface pays for them.
func TestNoBodies(t *testing.T) {
	h := newHarness(t)
	h.good(xds.ClusterType, bodies("c", staticCluster(t, "c")))
	if all := h.Bodies(xds.ClusterType); all != nil {
		t.Errorf("%v", all)
	}
}
