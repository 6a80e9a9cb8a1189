package xds

import (
	"context"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// raw is a stream to our server with nothing in between, as Envoy's would be.
type raw struct {
	t     *testing.T
	sotw  discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	delta discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func rawSotw(t *testing.T, cc grpc.ClientConnInterface) *raw {
	t.Helper()
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).StreamAggregatedResources(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return &raw{t: t, sotw: st}
}

func rawDelta(t *testing.T, cc grpc.ClientConnInterface) *raw {
	t.Helper()
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return &raw{t: t, delta: st}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (r *raw) ask(m *discoveryv3.DiscoveryRequest) {
	r.t.Helper()
	if err := r.sotw.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) askDelta(m *discoveryv3.DeltaDiscoveryRequest) {
	r.t.Helper()
	if err := r.delta.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

// get is the next state-of-the-world response, which must be "CDS a b".
func (r *raw) get(want string) *discoveryv3.DiscoveryResponse {
	r.t.Helper()
	m, err := r.sotw.Recv()
	if err != nil {
		r.t.Fatalf("want %q: %v", want, err)
	}
	line := short(m.TypeUrl)
	for _, body := range m.Resources {
		name, err := resourceName(body)
		if err != nil {
			r.t.Fatal(err)
		}
		line += " " + name
	}
	if line != want {
		r.t.Fatalf("response %q, want %q", line, want)
	}
	return m
}

// getDelta is the next delta response, which must be "CDS a -b".
func (r *raw) getDelta(want string) *discoveryv3.DeltaDiscoveryResponse {
	r.t.Helper()
	m, err := r.delta.Recv()
	if err != nil {
		r.t.Fatalf("want %q: %v", want, err)
	}
	line := short(m.TypeUrl)
	for _, res := range m.Resources {
		line += " " + res.Name
	}
	for _, n := range m.RemovedResources {
		line += " -" + n
	}
	if line != want {
		r.t.Fatalf("response %q, want %q", line, want)
	}
	return m
}

func (r *raw) ack(m *discoveryv3.DiscoveryResponse, names ...string) {
	r.t.Helper()
	r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, VersionInfo: m.VersionInfo, ResponseNonce: m.Nonce, ResourceNames: names})
}

func (r *raw) ackDelta(m *discoveryv3.DeltaDiscoveryResponse) {
	r.t.Helper()
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
}
