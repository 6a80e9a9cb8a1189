package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/egret-mesh/egret/bench/control"
)

// sidecar is what Egret's proxy and Envoy get alike.
type sidecar struct {
	yaml      string
	accessLog bool
	// captured are the destinations that are called, in the order of ports.
	captured []captured
	// connections is how many may be open at a time; 0: the proxy's default.
	connections int
	gateway     control.Gateway // zero: none
	// fewStats gives Envoy Istio's stats matcher. Elsewhere it counts what it counts by
	// default: without Istio's own filter it would count nothing at all.
	fewStats bool
}

// captured is a destination and the listener that it belongs to.
type captured struct {
	host     string // name or address
	port     int
	listener string // Istio's name of it
}

var httpCaptured = captured{originHost, httpPort, "0.0.0.0_80"}

// plane starts a control plane for one proxy.
func (s *session) plane(o control.Options) (*control.Plane, error) {
	p, err := control.Start(o)
	if err == nil {
		s.planes = append(s.planes, p)
	}
	return p, err
}

// addressesOf names the ports by the destinations that they stand for.
func addressesOf(all []captured, ports []int) map[string]string {
	out := map[string]string{}
	for i, c := range all {
		out[strconv.Itoa(c.port)] = address(ports[i])
	}
	return out
}

// startEgret starts Egret's proxy as a sidecar with a control plane of its own.
func (s *session) startEgret(ctx context.Context, o sidecar, ready func(address string) func(context.Context) error) (*target, error) {
	opts := control.Options{YAML: o.yaml, Gateway: o.gateway}
	if o.accessLog {
		opts.AccessLog = s.logFile(egret)
	}
	plane, err := s.plane(opts)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(len(o.captured))
	if err != nil {
		return nil, err
	}
	args := []string{"-connections", strconv.Itoa(o.connections)}
	for i, c := range o.captured {
		args = append(args, "-capture", fmt.Sprintf("%s=%s:%d", address(ports[i]), c.host, c.port))
	}
	if s.profile != "" {
		args = append(args, "-cpuprofile", filepath.Join(s.profile, s.name+".pprof"))
	}
	t := &target{name: egret, address: address(ports[0]), addresses: addressesOf(o.captured, ports), change: changes(plane, o.yaml)}
	if o.gateway != (control.Gateway{}) {
		p, err := s.egretProcess(ctx, plane, o.gateway.Node(), accepts(o.gateway.HTTPAddress()))
		if err != nil {
			return nil, err
		}
		t.processes = append(t.processes, p)
	}
	p, err := s.egretProcess(ctx, plane, control.SidecarNode(), ready(t.address), args...)
	t.processes = append(t.processes, p)
	return t, err
}

func (s *session) egretProcess(ctx context.Context, plane *control.Plane, node *corev3.Node, ready func(context.Context) error, args ...string) (*process, error) {
	text, err := protojson.Marshal(node)
	if err != nil {
		return nil, err
	}
	args = append([]string{filepath.Join(s.binaries, "proxy"), "-xds", plane.Address(), "-node", string(text)}, args...)
	return s.server(ctx, egret, s.proxyCore, nil, ready, args...)
}

// startEnvoy starts Envoy with the same resources, from a control plane of its own. It
// is the same but for the addresses of its listeners: see control.Options.Binds.
func (s *session) startEnvoy(ctx context.Context, o sidecar, ready func(address string) func(context.Context) error) (*target, error) {
	if s.tools[envoy] == "" {
		return nil, skipError{"Envoy is not installed (bench/install)"}
	}
	ports, err := freePorts(len(o.captured))
	if err != nil {
		return nil, err
	}
	opts := control.Options{YAML: o.yaml, Gateway: o.gateway, Binds: map[string]netip.AddrPort{}}
	for i, c := range o.captured {
		opts.Binds[c.listener] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports[i]))
	}
	if o.accessLog {
		opts.AccessLog = s.logFile(envoy)
	}
	plane, err := s.plane(opts)
	if err != nil {
		return nil, err
	}
	t := &target{name: envoy, address: address(ports[0]), addresses: addressesOf(o.captured, ports), change: changes(plane, o.yaml)}
	if o.gateway != (control.Gateway{}) {
		p, err := s.envoyProcess(ctx, plane, "gateway", o.gateway.Node(), o.fewStats, accepts(o.gateway.HTTPAddress()))
		if err != nil {
			return nil, err
		}
		t.processes = append(t.processes, p)
	}
	p, err := s.envoyProcess(ctx, plane, envoy, control.SidecarNode(), o.fewStats, ready(t.address))
	t.processes = append(t.processes, p)
	return t, err
}

func (s *session) envoyProcess(ctx context.Context, plane *control.Plane, name string, node *corev3.Node, fewStats bool, ready func(context.Context) error) (*process, error) {
	bootstrap, err := envoyBootstrap(node, plane.Address(), fewStats)
	if err != nil {
		return nil, err
	}
	path, err := s.write(name+".json", bootstrap)
	if err != nil {
		return nil, err
	}
	p, err := s.server(ctx, name, s.proxyCore, nil, ready, s.tools[envoy],
		"-c", path, "--service-cluster", "bench", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn")
	if err != nil {
		if nacks := plane.Nacks(); len(nacks) > 0 {
			return nil, fmt.Errorf("%w\nNACKs: %q", err, nacks)
		}
		return nil, err
	}
	return p, nil
}

// envoyBootstrap is a configuration that takes everything from ADS, as Istio's does.
func envoyBootstrap(node *corev3.Node, ads string, fewStats bool) (string, error) {
	text, err := protojson.Marshal(node)
	if err != nil {
		return "", err
	}
	at, err := netip.ParseAddrPort(ads)
	if err != nil {
		return "", err
	}
	fromADS := map[string]any{"ads": map[string]any{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
	stats := map[string]any{}
	if fewStats {
		stats["stats_matcher"] = map[string]any{"inclusion_list": map[string]any{"patterns": prefixes(istioStats...)}}
	}
	b, err := json.MarshalIndent(map[string]any{
		"stats_config": stats,
		"node":         json.RawMessage(text),
		"dynamic_resources": map[string]any{
			"ads_config": map[string]any{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "xds-grpc"}}},
			},
			"cds_config": fromADS, "lds_config": fromADS,
		},
		"static_resources": map[string]any{"clusters": []any{map[string]any{
			"name": "xds-grpc", "type": "STATIC", "connect_timeout": "5s",
			"typed_extension_protocol_options": map[string]any{
				"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
					"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
					"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
				},
			},
			"load_assignment": map[string]any{
				"cluster_name": "xds-grpc",
				"endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{
					"address": map[string]any{"socket_address": map[string]any{
						"address": at.Addr().String(), "port_value": at.Port(),
					}},
				}}}}},
			},
		}}},
	}, "", "  ")
	return string(b), err
}

// istioStats are the prefixes of the stats that Istio's bootstrap lets Envoy keep.
var istioStats = []string{
	"reporter=", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "component",
}

func prefixes(all ...string) (out []any) {
	for _, p := range all {
		out = append(out, map[string]any{"prefix": p})
	}
	return out
}
