package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// request is what a client says, in both forms of the protocol. A state-of-the-world
// stream uses version and names, a delta stream subscribe, unsubscribe and initial.
type request struct {
	node    *corev3.Node
	typeURL string
	nonce   string
	problem string // of a NACK
	refused bool   // it is a NACK

	version string
	names   []string

	subscribe, unsubscribe []string
	initial                map[string]string
}

// response is what a server says, in both forms of the protocol.
type response struct {
	typeURL   string
	nonce     string
	version   string
	resources []Resource
	removed   []string // delta only
}

// serverWire is a stream as the server sees it: one for each form of the protocol.
type serverWire interface {
	recv() (*request, error)
	send(*response) error
}

// clientWire is a stream as the client sees it.
type clientWire interface {
	recv() (*response, error)
	send(*request) error
}

type (
	sotwServer struct {
		stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	}
	deltaServer struct {
		stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	}
	sotwClient struct {
		stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	}
	deltaClient struct {
		stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	}
)

func (w sotwServer) recv() (*request, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	return &request{
		node: m.Node, typeURL: m.TypeUrl, nonce: m.ResponseNonce,
		problem: m.ErrorDetail.GetMessage(), refused: m.ErrorDetail != nil,
		version: m.VersionInfo, names: m.ResourceNames,
	}, nil
}

func (w sotwServer) send(r *response) error { return w.stream.SendMsg(sotwFrame(r)) }

func (w deltaServer) recv() (*request, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	return &request{
		node: m.Node, typeURL: m.TypeUrl, nonce: m.ResponseNonce,
		problem: m.ErrorDetail.GetMessage(), refused: m.ErrorDetail != nil,
		subscribe: m.ResourceNamesSubscribe, unsubscribe: m.ResourceNamesUnsubscribe,
		initial: m.InitialResourceVersions,
	}, nil
}

func (w deltaServer) send(r *response) error { return w.stream.SendMsg(deltaFrame(r)) }

func (w sotwClient) send(r *request) error {
	return w.stream.Send(&discoveryv3.DiscoveryRequest{
		Node: r.node, TypeUrl: r.typeURL, ResponseNonce: r.nonce, VersionInfo: r.version,
		ResourceNames: r.names, ErrorDetail: errorDetail(r),
	})
}

// recv takes resources out of the envelope envoy.service.discovery.v3.Resource where the
// server uses it. Otherwise they come without name and version; watch.check adds these.
func (w sotwClient) recv() (*response, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	r := &response{typeURL: m.TypeUrl, nonce: m.Nonce, version: m.VersionInfo}
	for _, body := range m.Resources {
		r.resources = append(r.resources, unwrap(body))
	}
	return r, nil
}

func unwrap(body *anypb.Any) Resource {
	var envelope discoveryv3.Resource
	if body.MessageIs(&envelope) {
		if err := proto.Unmarshal(body.Value, &envelope); err != nil {
			return Resource{Body: body} // refused later: it is of another type
		}
		return Resource{Name: envelope.Name, Version: envelope.Version, Body: envelope.Resource}
	}
	return Resource{Body: body}
}

func (w deltaClient) send(r *request) error {
	return w.stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: r.node, TypeUrl: r.typeURL, ResponseNonce: r.nonce,
		ResourceNamesSubscribe: r.subscribe, ResourceNamesUnsubscribe: r.unsubscribe,
		InitialResourceVersions: r.initial, ErrorDetail: errorDetail(r),
	})
}

func (w deltaClient) recv() (*response, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	r := &response{typeURL: m.TypeUrl, nonce: m.Nonce, version: m.SystemVersionInfo, removed: m.RemovedResources}
	for _, res := range m.Resources {
		if res.GetResource() == nil {
			continue // a heartbeat of a resource with a time to live: nothing new
		}
		r.resources = append(r.resources, Resource{Name: res.Name, Version: res.Version, Body: res.Resource})
		for _, alias := range res.Aliases { // other names that it was asked for by (VHDS)
			r.resources = append(r.resources, Resource{Name: alias, Version: res.Version, Body: res.Resource, alias: true})
		}
	}
	return r, nil
}

func errorDetail(r *request) *statuspb.Status {
	if !r.refused {
		return nil
	}
	return &statuspb.Status{Code: int32(codes.InvalidArgument), Message: r.problem}
}
