// Package proxyconfig reads what an Envoy, or an Egret proxy, tells of its configuration
// at its admin interface, and prints it as istioctl proxy-config does.
//
// It must not change anything in the proxy, and knows nothing of Egret's own.
package proxyconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/anyjson"
)

// MaxSize of a dump that is read, in bytes.
const MaxSize = 1 << 30

// Dump is what /config_dump?include_eds tells, in the order of the dump.
type Dump struct {
	Bootstrap *bootstrapv3.Bootstrap // nil: not in the dump
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
	Secrets   []Secret
}

// Secret is a certificate or the authorities for one.
type Secret struct {
	Status string // ACTIVE, WARMING or UNINITIALIZED, in istioctl's words
	*tlsv3.Secret
}

// Read reads a dump. Types that are not known in it are kept as they are.
func Read(in io.Reader) (*Dump, error) {
	data, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the dump has more than %d bytes", MaxSize)
	}
	var all struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("not a dump of Envoy's configuration: %w", err)
	}
	if len(all.Configs) == 0 {
		return nil, errors.New("the dump has no configs")
	}
	d := &Dump{}
	for _, one := range all.Configs {
		if err := d.section(one); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// section takes one message of the dump. Those that nothing is told of are left out.
func (d *Dump) section(text json.RawMessage) error {
	var typed struct {
		Type string `json:"@type"`
	}
	if err := json.Unmarshal(text, &typed); err != nil {
		return err
	}
	var err error
	take := func(m proto.Message) bool {
		if typed.Type != "type.googleapis.com/"+string(m.ProtoReflect().Descriptor().FullName()) {
			return false
		}
		if err = anyjson.Unmarshal(text, m); err != nil {
			err = fmt.Errorf("%s: %w", typed.Type, err)
		}
		return true
	}
	bootstrap, listeners, clusters := &adminv3.BootstrapConfigDump{}, &adminv3.ListenersConfigDump{}, &adminv3.ClustersConfigDump{}
	routes, endpoints, secrets := &adminv3.RoutesConfigDump{}, &adminv3.EndpointsConfigDump{}, &adminv3.SecretsConfigDump{}
	switch {
	case take(bootstrap):
		d.Bootstrap = bootstrap.GetBootstrap()
	case take(listeners):
		err = errors.Join(err, d.listeners(listeners))
	case take(clusters):
		err = errors.Join(err, d.clusters(clusters))
	case take(routes):
		err = errors.Join(err, d.routes(routes))
	case take(endpoints):
		err = errors.Join(err, d.endpoints(endpoints))
	case take(secrets):
		err = errors.Join(err, d.secrets(secrets))
	}
	return err
}

// add appends the message in an Any; nil adds nothing.
func add[T any, M interface {
	*T
	proto.Message
}](to *[]M, a *anypb.Any) error {
	if a == nil {
		return nil
	}
	m := M(new(T))
	if err := a.UnmarshalTo(m); err != nil {
		return err
	}
	*to = append(*to, m)
	return nil
}

func (d *Dump) listeners(m *adminv3.ListenersConfigDump) (err error) {
	for _, l := range m.GetDynamicListeners() {
		err = errors.Join(err, add(&d.Listeners, l.GetActiveState().GetListener()))
	}
	for _, l := range m.GetStaticListeners() {
		err = errors.Join(err, add(&d.Listeners, l.GetListener()))
	}
	return err
}

func (d *Dump) clusters(m *adminv3.ClustersConfigDump) (err error) {
	for _, c := range m.GetDynamicActiveClusters() {
		err = errors.Join(err, add(&d.Clusters, c.GetCluster()))
	}
	for _, c := range m.GetStaticClusters() {
		err = errors.Join(err, add(&d.Clusters, c.GetCluster()))
	}
	return err
}

func (d *Dump) routes(m *adminv3.RoutesConfigDump) (err error) {
	for _, r := range m.GetDynamicRouteConfigs() {
		err = errors.Join(err, add(&d.Routes, r.GetRouteConfig()))
	}
	for _, r := range m.GetStaticRouteConfigs() {
		err = errors.Join(err, add(&d.Routes, r.GetRouteConfig()))
	}
	return err
}

func (d *Dump) endpoints(m *adminv3.EndpointsConfigDump) (err error) {
	for _, e := range m.GetDynamicEndpointConfigs() {
		err = errors.Join(err, add(&d.Endpoints, e.GetEndpointConfig()))
	}
	for _, e := range m.GetStaticEndpointConfigs() {
		err = errors.Join(err, add(&d.Endpoints, e.GetEndpointConfig()))
	}
	return err
}

func (d *Dump) secrets(m *adminv3.SecretsConfigDump) error {
	for status, list := range map[string][]*adminv3.SecretsConfigDump_DynamicSecret{
		"ACTIVE": m.GetDynamicActiveSecrets(), "WARMING": m.GetDynamicWarmingSecrets(),
	} {
		for _, s := range list {
			one := Secret{status, &tlsv3.Secret{}}
			if s.GetSecret() != nil {
				if err := s.GetSecret().UnmarshalTo(one.Secret); err != nil {
					return err
				}
			}
			one.Name = s.GetName()
			if s.GetVersionInfo() == "uninitialized" {
				one.Status = "UNINITIALIZED"
			}
			d.Secrets = append(d.Secrets, one)
		}
	}
	return nil
}
