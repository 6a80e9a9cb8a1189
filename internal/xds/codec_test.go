package xds

import (
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// A frame is the message that it stands for, and bodies in it are not copies.
func TestFrames(t *testing.T) {
	long := resource(t, ClusterType, "long", strings.Repeat("x", 3000))
	empty := Resource{Name: "empty", Version: "0", Body: &anypb.Any{TypeUrl: ClusterType}}
	nameless := Resource{Body: &anypb.Any{TypeUrl: NameTableType, Value: []byte{10, 0}}}
	for name, r := range map[string]*response{
		"nothing":   {typeURL: ClusterType, version: "1", nonce: "1/1"},
		"removed":   {typeURL: ClusterType, version: "1", nonce: "1/2", removed: []string{"a", "", "b"}},
		"resources": {typeURL: ClusterType, version: "2", nonce: "2/300", resources: []Resource{long, empty, nameless, resource(t, ClusterType, "s", "t"), long}},
	} {
		t.Run(name, func(t *testing.T) {
			sotw := &discoveryv3.DiscoveryResponse{VersionInfo: r.version, TypeUrl: r.typeURL, Nonce: r.nonce}
			delta := &discoveryv3.DeltaDiscoveryResponse{SystemVersionInfo: r.version, TypeUrl: r.typeURL, Nonce: r.nonce, RemovedResources: r.removed}
			for _, res := range r.resources {
				sotw.Resources = append(sotw.Resources, res.Body)
				delta.Resources = append(delta.Resources, &discoveryv3.Resource{Name: res.Name, Version: res.Version, Resource: res.Body})
			}
			for _, c := range []struct {
				frame     *frame
				got, want proto.Message
			}{
				{sotwFrame(r), &discoveryv3.DiscoveryResponse{}, sotw},
				{deltaFrame(r), &discoveryv3.DeltaDiscoveryResponse{}, delta},
			} {
				if err := proto.Unmarshal(c.frame.data.Materialize(), c.got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, c.got, protocmp.Transform()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
	shared := 0
	for _, part := range deltaFrame(&response{resources: []Resource{long}}).data {
		if b := part.ReadOnlyData(); len(b) > 0 && &b[0] == &long.Body.Value[0] {
			shared++
		}
	}
	if shared != 1 {
		t.Error("the long body was copied")
	}
}
