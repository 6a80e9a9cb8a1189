package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/xds"
)

// fleet are the simulated proxies, and what they got.
type fleet struct {
	resources, bytes, clusters atomic.Int64
	// progress has a token after each response.
	progress chan struct{}
	failed   chan error
}

// proxy is one: it subscribes, and accepts all that it is sent.
type proxy struct {
	fleet  *fleet
	number int
	hosts  []int // that it asks for; nil: it takes everything
	expect int   // resources of the first load
	got    atomic.Int64
}

func newProxy(f *fleet, number int, m measured, names int) *proxy {
	p := &proxy{fleet: f, number: number}
	if !m.onDemand {
		p.expect = 2*m.entries + 2
		return p
	}
	random := rand.New(rand.NewPCG(uint64(number), 7))
	p.hosts = []int{0}
	for _, h := range random.Perm(m.entries - 1)[:min(names, m.entries)-1] {
		p.hosts = append(p.hosts, h+1)
	}
	p.expect = 5 * len(p.hosts)
	return p
}

func (p *proxy) node(onDemand bool) *corev3.Node {
	address := fmt.Sprintf("10.%d.%d.%d", p.number>>16, p.number>>8&255, p.number&255)
	fields := map[string]*structpb.Value{
		"NAMESPACE":    structpb.NewStringValue("default"),
		"INSTANCE_IPS": structpb.NewStringValue(address),
		"DNS_CAPTURE":  structpb.NewStringValue("true"),
		"LABELS": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"app": structpb.NewStringValue(fmt.Sprintf("app-%d", p.number)),
		}}),
	}
	if onDemand {
		fields[xds.OnDemandMetadata] = structpb.NewStringValue("true")
	}
	return &corev3.Node{
		Id:       fmt.Sprintf("sidecar~%s~app-%d.default~default.svc.cluster.local", address, p.number),
		Metadata: &structpb.Struct{Fields: fields},
	}
}

// run is the proxy's life; it ends with ctx.
func (p *proxy) run(ctx context.Context, address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: patience}), // all come at once
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.ForceCodecV2(lightCodec{encoding.GetCodecV2(proto.Name)}), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName)
	if err != nil {
		return err
	}
	node := p.node(p.hosts != nil)
	for _, r := range p.requests() {
		r.Node, node = node, nil
		if err := stream.SendMsg(r); err != nil {
			return err
		}
	}
	for {
		var r light
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		if err := stream.SendMsg(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce}); err != nil {
			return err
		}
		p.count(&r)
	}
}

func (p *proxy) count(r *light) {
	f := p.fleet
	f.bytes.Add(int64(r.size))
	f.resources.Add(int64(r.resources))
	if r.typeURL == xds.ClusterType {
		f.clusters.Add(int64(r.resources))
	}
	switch r.typeURL {
	case xds.ClusterType:
		p.got.Add(int64(r.resources))
	case xds.VirtualHostType, xds.FilterChainType, xds.NameTableType:
		if p.hosts != nil {
			p.got.Add(int64(r.resources))
		}
	}
	select {
	case f.progress <- struct{}{}:
	default:
	}
}

// requests are the proxy's first ones.
func (p *proxy) requests() []*discoveryv3.DeltaDiscoveryRequest {
	ask := func(typeURL string, names ...string) *discoveryv3.DeltaDiscoveryRequest {
		return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names}
	}
	if p.hosts == nil {
		return []*discoveryv3.DeltaDiscoveryRequest{
			ask(xds.ClusterType), ask(xds.ListenerType), ask(xds.RouteType, "80"), ask(xds.NameTableType),
		}
	}
	var clusters, hosts, chains, names []string
	for _, h := range p.hosts {
		host := hostOf(h)
		clusters = append(clusters, "outbound|80||"+host, "outbound|443||"+host)
		hosts = append(hosts, "80/"+host)
		chains = append(chains, "0.0.0.0_443/"+host)
		names = append(names, host)
	}
	return []*discoveryv3.DeltaDiscoveryRequest{
		ask(xds.ClusterType, clusters...), ask(xds.ListenerType), ask(xds.RouteType, "80"),
		ask(xds.FilterChainType, chains...), ask(xds.VirtualHostType, hosts...), ask(xds.NameTableType, names...),
	}
}

// light is what is read of a DeltaDiscoveryResponse, so that the driver takes little of the
// machine.
type light struct {
	typeURL, nonce  string
	resources, size int
}

// lightCodec is gRPC's own, but for light.
type lightCodec struct{ encoding.CodecV2 }

func (c lightCodec) Unmarshal(data mem.BufferSlice, v any) error {
	l, ok := v.(*light)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	b := whole.ReadOnlyData()
	l.size = len(b)
	for len(b) > 0 {
		number, _, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		switch number {
		case 2:
			l.resources++
		case 4:
			l.typeURL = string(value)
		case 5:
			l.nonce = string(value)
		}
		b = b[n+m:]
	}
	return nil
}
