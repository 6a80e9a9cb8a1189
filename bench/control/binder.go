package control

import (
	"fmt"
	"maps"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/xds"
)

// binder stands for the capture of a proxy that runs without any. In a workload,
// packets are redirected to the listener virtualOutbound, which hands each connection to
// the listener of its original destination; that one is not bound. Here the latter is
// bound, at an address of loopback, and virtualOutbound is not sent. Filter chains,
// filters, routes and clusters stay as generated.
type binder struct {
	xds.Generator
	binds map[string]netip.AddrPort // by name of the listener; nil: nothing is changed
}

// Generate implements xds.Generator.
func (b binder) Generate(n *corev3.Node) (xds.Snapshot, error) {
	all, err := b.Generator.Generate(n)
	if err != nil || b.binds == nil {
		return all, err
	}
	all = maps.Clone(all)
	listeners := maps.Clone(all[xds.ListenerType])
	delete(listeners, "virtualOutbound")
	for name, address := range b.binds {
		r, ok := listeners[name]
		if !ok {
			return nil, fmt.Errorf("there is no listener %q to bind to %v", name, address)
		}
		if listeners[name], err = bind(r, address); err != nil {
			return nil, err
		}
	}
	all[xds.ListenerType] = listeners
	return all, nil
}

func bind(r xds.Resource, a netip.AddrPort) (xds.Resource, error) {
	var l listenerv3.Listener
	if err := r.Body.UnmarshalTo(&l); err != nil {
		return r, err
	}
	l.BindToPort = wrapperspb.Bool(true)
	l.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
	l.AdditionalAddresses = nil
	body, err := anypb.New(&l)
	if err != nil {
		return r, err
	}
	return xds.Resource{Name: r.Name, Version: xds.BodyVersion(body), Body: body}, nil
}
