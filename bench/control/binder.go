package control

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/xds"
)

// binder says where listeners are bound; filter chains, filters, routes and clusters
// stay as generated.
//
// For a sidecar it stands for the capture. In a workload, packets are redirected to the
// listener virtualOutbound, which hands each connection to the listener of its original
// destination; that one is not bound. Here the latter is bound, at an address of
// loopback, and virtualOutbound is not sent.
//
// A gateway listens at its own address, not at all of the machine's.
type binder struct {
	xds.Generator
	binds   map[string]netip.AddrPort // a sidecar's, by name of the listener; nil: as generated
	gateway netip.Addr
}

// Generate implements xds.Generator.
func (b binder) Generate(n *corev3.Node) (xds.Snapshot, error) {
	all, err := b.Generator.Generate(n)
	if err != nil {
		return nil, err
	}
	listeners := maps.Clone(all[xds.ListenerType])
	switch router := strings.HasPrefix(n.GetId(), "router~"); {
	case router:
		err = b.bindGateway(listeners)
	case b.binds == nil:
		return all, nil
	default:
		err = b.bindSidecar(listeners)
	}
	if err != nil {
		return nil, err
	}
	all = maps.Clone(all)
	all[xds.ListenerType] = listeners
	return all, nil
}

func (b binder) bindSidecar(listeners map[string]xds.Resource) error {
	delete(listeners, "virtualOutbound")
	for name, address := range b.binds {
		if err := bind(listeners, name, address); err != nil {
			return err
		}
	}
	return nil
}

func (b binder) bindGateway(listeners map[string]xds.Resource) error {
	for name := range listeners {
		if err := bind(listeners, name, netip.AddrPortFrom(b.gateway, 0)); err != nil {
			return err
		}
	}
	return nil
}

// bind replaces the address of a listener; port 0 is the one that it has.
func bind(listeners map[string]xds.Resource, name string, a netip.AddrPort) error {
	r, ok := listeners[name]
	if !ok {
		return fmt.Errorf("there is no listener %q to bind to %v", name, a)
	}
	var l listenerv3.Listener
	if err := r.Body.UnmarshalTo(&l); err != nil {
		return err
	}
	port := uint32(a.Port())
	if port == 0 {
		port = l.GetAddress().GetSocketAddress().GetPortValue()
	}
	l.BindToPort = wrapperspb.Bool(true)
	l.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
	l.AdditionalAddresses = nil
	body, err := anypb.New(&l)
	if err != nil {
		return err
	}
	listeners[name] = xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}
	return nil
}
