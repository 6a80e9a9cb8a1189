package xds

import (
	"context"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// A stream gets the configuration of the node that it may be, and no other; nor can it become
// another node later.
func TestAdmit(t *testing.T) {
	f := &fixture{session: session{gen: &generator{snap: world(t, "a=1")}}}
	f.serve(t, NewServer(f.gen, ServerOptions{Admit: func(ctx context.Context, n *corev3.Node) error {
		if _, ok := peer.FromContext(ctx); !ok {
			t.Error("the stream's context does not tell who calls")
		}
		if n.GetId() == "envoy" {
			return nil
		}
		return status.Error(codes.PermissionDenied, "not you")
	}}))
	for name, ask := range map[string]func(*raw, *corev3.Node) error{
		"state of the world": func(r *raw, n *corev3.Node) error {
			r.ask(&discoveryv3.DiscoveryRequest{Node: n, TypeUrl: ClusterType})
			_, err := r.sotw.Recv()
			return err
		},
		"delta": func(r *raw, n *corev3.Node) error {
			r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: ClusterType})
			_, err := r.delta.Recv()
			return err
		},
	} {
		open := rawSotw
		if name == "delta" {
			open = rawDelta
		}
		if err := ask(open(t, f.conn), node("thief")); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
		if err := ask(open(t, f.conn), node("envoy")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range f.server.Status() {
		if n.NodeID != "envoy" {
			t.Errorf("the server has a node %q", n.NodeID)
		}
	}
}
