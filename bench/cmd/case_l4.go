package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// l4Case is how connections are carried that are not HTTP.
type l4Case struct {
	name string
	port int    // of the registry
	sni  string // "": by address
}

var (
	tcpBulk    = l4Case{"tcp-bulk", bulkPort, ""}
	tcpConnect = l4Case{"tcp-connect", shortPort, ""}
	tlsBulk    = l4Case{"tls-passthrough-bulk", tlsPort, originHost}
	tlsConnect = l4Case{"tls-passthrough-connect", tlsShort, originHost}
)

func (c l4Case) how() string {
	if c.sni == "" {
		return "TCP"
	}
	return "TLS passed through by SNI"
}

// loadArgs is the load of bench/load, without the address.
func (c l4Case) loadArgs(what string, connections int) []string {
	args := []string{what, "-connections", strconv.Itoa(connections)}
	if c.sni != "" {
		args = append(args, "-sni", c.sni)
	}
	return args
}

// bulkCase moves bytes both ways over a few connections.
func bulkCase(c l4Case) benchCase {
	args := c.loadArgs("bulk", 4)
	return benchCase{
		name:    c.name,
		about:   fmt.Sprintf("%s, 4 connections, bytes both ways, access log on: `load %s`; HAProxy with `option splice-request` and `splice-response`", c.how(), strings.Join(args, " ")),
		columns: []column{{"cpu", "CPU ms/GB", 1}, {"rate", "MB/s", 0}, {"rss", "RSS MB", 1}},
		ratios:  []ratio{{peer: haproxy, key: "cpu", goal: 1.0}, {peer: envoy, key: "cpu"}},
		start:   startL4,
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			var got struct {
				Down, Up int64
				Seconds  float64
			}
			spent, err := s.loadL4(ctx, t, c, args, &got)
			if err != nil {
				return nil, err
			}
			m, err := t.memory()
			if err != nil {
				return nil, err
			}
			bytes := float64(got.Down + got.Up)
			return sample{"cpu": spent.Seconds() * 1e3 / (bytes / 1e9), "rate": bytes / 1e6 / got.Seconds, "rss": m.rss / 1e6}, nil
		},
	}
}

// connectCase opens many short connections.
func connectCase(c l4Case) benchCase {
	args := c.loadArgs("connect", 16)
	return benchCase{
		name:    c.name,
		about:   fmt.Sprintf("%s, 16 at a time, short connections with a 1 KB answer, access log on: `load %s`", c.how(), strings.Join(args, " ")),
		columns: []column{{"cpu", "CPU µs/connection", 1}, {"rate", "connections/s", 0}, {"rss", "RSS MB", 1}},
		ratios: []ratio{
			{peer: haproxy, key: "cpu"},
			{suffix: "-rate", peer: haproxy, key: "rate", higher: true, goal: 1.0},
			{peer: envoy, key: "cpu"},
			{suffix: "-rate", peer: envoy, key: "rate", higher: true},
		},
		start: startL4,
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			var got struct {
				Connections int64
				Seconds     float64
			}
			spent, err := s.loadL4(ctx, t, c, args, &got)
			if err != nil {
				return nil, err
			}
			if got.Connections == 0 {
				return nil, errors.New("no connection")
			}
			m, err := t.memory()
			if err != nil {
				return nil, err
			}
			return sample{"cpu": micro(spent) / float64(got.Connections), "rate": float64(got.Connections) / got.Seconds, "rss": m.rss / 1e6}, nil
		},
	}
}

// loadL4 is the CPU time that a target uses for the load, after a second of the same
// load the first time.
func (s *session) loadL4(ctx context.Context, t *target, c l4Case, args []string, got any) (time.Duration, error) {
	load := func(d time.Duration) error {
		to := []string{args[0], "-address", t.addresses[strconv.Itoa(c.port)], "-duration", d.String()}
		return s.own(ctx, d, got, append(to, args[1:]...)...)
	}
	if !t.warm {
		if err := load(time.Second); err != nil {
			return 0, err
		}
		t.warm = true
	}
	return t.spent(func() error { return load(s.duration) })
}

// startL4 starts the origin and the proxies for its TCP and TLS ports.
func startL4(ctx context.Context, s *session) ([]*target, error) {
	bulk, short, err := s.startTCPOrigin(ctx)
	if err != nil {
		return nil, err
	}
	// An HTTP port besides, so that there are routes as in the other cases.
	origins := []entry{
		{name: "origin", host: originHost, ports: []entryPort{{httpPort, "HTTP", short}, {tlsPort, "TLS", bulk}, {tlsShort, "TLS", short}}},
		{name: "origin-tcp", host: "tcp.bench.test", address: tcpAddress.String(), ports: []entryPort{{bulkPort, "TCP", bulk}, {shortPort, "TCP", short}}},
	}
	tcp := tcpAddress.String()
	c := sidecar{yaml: registryYAML(origins, others), accessLog: true, captured: []captured{
		{originHost, tlsPort, "0.0.0.0_443"}, {originHost, tlsShort, "0.0.0.0_9443"},
		{tcp, bulkPort, tcp + "_9001"}, {tcp, shortPort, tcp + "_9002"},
	}}
	ready := func(address string) func(context.Context) error { return accepts(address) }
	return s.startPeers(ctx, map[string]func() (*target, error){
		egret:   func() (*target, error) { return s.startEgret(ctx, c, ready) },
		envoy:   func() (*target, error) { return s.startEnvoy(ctx, c, ready) },
		haproxy: func() (*target, error) { return s.startHAProxyTCP(ctx, bulk, short) },
	})
}

// startTCPOrigin starts the other end of bench/load.
func (s *session) startTCPOrigin(ctx context.Context) (bulk, short string, err error) {
	p, err := s.server(ctx, source, s.otherCore, nil, nil, filepath.Join(s.binaries, "load"), "origin")
	if err != nil {
		return "", "", err
	}
	err = p.until(ctx, func(context.Context) error {
		lines := bufio.NewScanner(strings.NewReader(p.output()))
		var all []string
		for lines.Scan() {
			all = append(all, lines.Text())
		}
		if len(all) < 2 {
			return errors.New("it has not said its addresses")
		}
		bulk, short = all[0], all[1]
		return nil
	})
	return bulk, short, err
}

// haproxyTCP carries the four destinations, two of them by SNI.
func haproxyTCP(ports []int, bulk, short, hosts string) string {
	var b strings.Builder
	b.WriteString(haproxyGlobal("tcp", haproxyOptions{accessLog: true, splice: true}))
	const log = `	log-format '[%t] "- - -" 0 %ts - - "-" %U %B %Tt - "-" "-" "-" "-" "%si:%sp" %b/%s %bi:%bp %fi:%fp %ci:%cp`
	for i, to := range []string{"bulk", "short"} {
		fmt.Fprintf(&b, "frontend tls-%[1]s\n\tbind %[2]s backlog 4096\n\ttcp-request inspect-delay 5s\n"+
			"\ttcp-request content capture req.ssl_sni len 64\n\ttcp-request content accept if { req.ssl_hello_type 1 }\n"+
			"%[3]s %%[capture.req.hdr(0)]'\n\tuse_backend %[1]s-%%[req.ssl_sni,lower,map_str(%[4]s,refused)]\n", to, address(ports[i]), log, hosts)
		fmt.Fprintf(&b, "frontend tcp-%[1]s\n\tbind %[2]s backlog 4096\n%[3]s'\n\tdefault_backend %[1]s-origin\n", to, address(ports[i+2]), log)
	}
	for to, origin := range map[string]string{"bulk": bulk, "short": short} {
		backend := func(name string) {
			fmt.Fprintf(&b, "backend %[1]s-%[2]s\n\tserver %[2]s %[3]s\n", to, name, origin)
		}
		backend("origin")
		for i := range others {
			backend(fmt.Sprintf("other-%d", i))
		}
	}
	return b.String()
}

func (s *session) startHAProxyTCP(ctx context.Context, bulk, short string) (*target, error) {
	if s.tools[haproxy] == "" {
		return nil, skipError{"HAProxy is not installed (bench/install)"}
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	hosts, err := s.write("haproxy.map", haproxyMap())
	if err != nil {
		return nil, err
	}
	conf, err := s.write("haproxy-tcp.cfg", haproxyTCP(ports, bulk, short, hosts))
	if err != nil {
		return nil, err
	}
	p, err := s.haproxyProcess(ctx, conf, true, accepts(address(ports[0])))
	if err != nil {
		return nil, err
	}
	return &target{name: haproxy, processes: []*process{p}, addresses: map[string]string{
		strconv.Itoa(tlsPort): address(ports[0]), strconv.Itoa(tlsShort): address(ports[1]),
		strconv.Itoa(bulkPort): address(ports[2]), strconv.Itoa(shortPort): address(ports[3]),
	}}, nil
}
