package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// http2Case is 1 KB answers over HTTP/2 with prior knowledge, both ways.
func http2Case(name string, connections, streams int) benchCase {
	return benchCase{
		name: name,
		about: fmt.Sprintf("HTTP/2 (h2c) down and up, 1 KB answers, %d connections with %d streams, access log on: `h2load -t1 -c%d -m%d`; latency at 1000 requests/s: `load rate -h2 -connections 100 -rate 1000`",
			connections, streams, connections, streams),
		columns: append(closedColumns, latencyColumns...),
		ratios: []ratio{
			{peer: envoy, key: "cpu", goal: 0.6},
			{peer: haproxy, key: "cpu"},
			{peer: source, label: "floor", key: "cpu", factor: 2},
		},
		start: func(ctx context.Context, s *session) ([]*target, error) { return s.startHTTP2(ctx) },
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			one, err := s.closedLoop(ctx, t, func(d time.Duration) (closed, error) {
				return s.h2load(ctx, t, connections, streams, d)
			})
			if err != nil {
				return nil, err
			}
			return one, s.rate(ctx, t, one, "-h2", "-connections", strconv.Itoa(100), "-rate", "1000")
		},
	}
}

// startHTTP2 starts an origin, HAProxy that answers by itself, and the proxies that can
// speak HTTP/2 to it: nginx cannot.
func (s *session) startHTTP2(ctx context.Context) ([]*target, error) {
	for _, name := range []string{"h2load", haproxy} {
		if s.tools[name] == "" {
			return nil, skipError{name + " is not installed (bench/install)"}
		}
	}
	o, err := s.startH2Origin(ctx)
	if err != nil {
		return nil, err
	}
	c := sidecar{yaml: registryYAML([]entry{httpOrigin(o.address, "HTTP2")}, others), accessLog: true, captured: []captured{httpCaptured}}
	proxies, err := s.startPeers(ctx, map[string]func() (*target, error){
		egret: func() (*target, error) {
			t, err := s.startEgret(ctx, c, func(address string) func(context.Context) error { return accepts(address) })
			if err != nil {
				return nil, err
			}
			if err := asksH2(t.address)(ctx); err != nil {
				return nil, skipError{fmt.Sprintf("Egret's proxy does not answer over HTTP/2: %v", err)}
			}
			return t, nil
		},
		envoy: func() (*target, error) { return s.startEnvoy(ctx, c, asksH2) },
		haproxy: func() (*target, error) {
			return s.startHAProxy(ctx, o.address, haproxyOptions{accessLog: true, h2: true}, asksH2)
		},
	})
	return append([]*target{o}, proxies...), err
}

// startH2Origin starts HAProxy as an origin that speaks nothing but HTTP/2. It takes all
// streams of the load on one connection: by default it refuses those beyond 100, which a
// proxy may open before it knows that limit, and Envoy gives up after two retries.
func (s *session) startH2Origin(ctx context.Context) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	body, err := s.write("body", strings.Repeat("x", bodySize))
	if err != nil {
		return nil, err
	}
	conf, err := s.write("h2origin.cfg", "global\n\ttune.h2.max-concurrent-streams 1000\n"+haproxyGlobal("http", haproxyOptions{})+fmt.Sprintf(
		"frontend origin\n\tbind %s backlog 4096 proto h2\n\thttp-request return status 200 content-type text/plain file %s\n", address(port), body))
	if err != nil {
		return nil, err
	}
	p, err := s.server(ctx, source, s.otherCore, nil, asksH2(address(port)), s.tools[haproxy], "-db", "-f", conf)
	if err != nil {
		return nil, err
	}
	return &target{name: source, address: address(port), processes: []*process{p}}, nil
}

// asksH2 asks for "/" over HTTP/2.
func asksH2(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		transport := &http.Transport{
			Protocols: new(http.Protocols),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+originHost+"/", nil)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s %s", resp.Status, resp.Header.Get("x-egret-reason"))
		}
		return nil
	}
}
