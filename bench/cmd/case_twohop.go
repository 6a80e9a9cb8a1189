package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/egret-mesh/egret/bench/control"
)

// gatewayAddress is where the egress gateways of a case listen, each on its own ports.
var gatewayAddress = netip.MustParseAddr("127.0.0.2")

// twohopCase is a request through a sidecar and an egress gateway.
func twohopCase() benchCase {
	return benchCase{
		name: "twohop",
		about: "HTTP/1.1, 1 KB answers, sidecar -> egress gateway -> origin, two processes on one core, access logs on: at 1000 requests/s, " +
			"`load rate -connections 16 -rate 1000`; added is the latency beyond that of the origin itself, measured just before; CPU of both: `wrk -t1 -c16`",
		columns: append([]column{{"added50", "added p50 µs", 0}, {"added", "added p99 µs", 0}}, append(latencyColumns, closedColumns...)...),
		ratios: []ratio{
			{peer: envoy, key: "added", goal: 0.5},
			{suffix: "-p50", peer: envoy, key: "added50"},
			{suffix: "-cpu", peer: envoy, key: "cpu"},
		},
		start: startTwohop,
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			one, err := s.closedLoop(ctx, t, func(d time.Duration) (closed, error) { return s.wrk(ctx, t, 16, d, "") })
			if err != nil {
				return nil, err
			}
			direct := sample{}
			if err := s.rate(ctx, &target{name: source, address: t.addresses[source]}, direct, "-rate", "1000"); err != nil {
				return nil, err
			}
			if err := s.rate(ctx, t, one, "-rate", "1000"); err != nil {
				return nil, err
			}
			one["added50"], one["added"] = one["p50"]-direct["p50"], one["p99"]-direct["p99"]
			return one, nil
		},
	}
}

func startTwohop(ctx context.Context, s *session) ([]*target, error) {
	o, err := s.startOrigin(ctx)
	if err != nil {
		return nil, err
	}
	yaml := registryYAML([]entry{httpOrigin(o.address, "HTTP")}, others) + gatewayYAML
	return s.startPeers(ctx, map[string]func() (*target, error){
		egret: func() (*target, error) { return s.startPair(ctx, yaml, o.address, s.startEgret) },
		envoy: func() (*target, error) { return s.startPair(ctx, yaml, o.address, s.startEnvoy) },
	})
}

type startSidecar func(context.Context, sidecar, func(string) func(context.Context) error) (*target, error)

// startPair starts a sidecar with an egress gateway of the same kind.
func (s *session) startPair(ctx context.Context, yaml, origin string, start startSidecar) (*target, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	t, err := start(ctx, sidecar{
		yaml: yaml, accessLog: true, captured: []captured{httpCaptured},
		gateway: control.Gateway{Address: gatewayAddress, HTTP: uint16(ports[0]), HTTPS: uint16(ports[1])},
	}, asks200)
	if err != nil {
		return nil, err
	}
	t.addresses[source] = origin
	return t, nil
}

// gatewayYAML leads the origin's port 80 through the egress gateway, as the lab does.
var gatewayYAML = fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [%[1]s]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through-gateway, namespace: default}
spec:
  hosts: [%[1]s]
  gateways: [mesh, egress]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: %[2]s, port: {number: 80}}}]
  - match: [{gateways: [egress], port: 80}]
    route: [{destination: {host: %[1]s, port: {number: 80}}}]
`, originHost, control.GatewayHost)
