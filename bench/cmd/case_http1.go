package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// micro is a number of microseconds.
func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// closedColumns are CPU time, throughput and memory.
var closedColumns = []column{
	{"cpu", "CPU µs/request", 1}, {"rate", "requests/s", 0}, {"rss", "RSS MB", 1},
}

// http1Case is 1 KB answers over kept connections.
func http1Case(name string, connections int, accessLog bool) benchCase {
	log := "access log on"
	if !accessLog {
		log = "access log off"
	}
	return benchCase{
		name: name,
		about: fmt.Sprintf("HTTP/1.1, 1 KB answers, %d kept connections, %d other services, %s: `wrk -t1 -c%d`; latency at 1000 requests/s: `load rate -connections %d -rate 1000`",
			connections, others, log, connections, connections),
		columns: append(closedColumns, latencyColumns...),
		ratios: []ratio{
			{peer: haproxy, key: "cpu", goal: 1.0},
			{peer: envoy, key: "cpu", goal: 0.4},
			{peer: source, label: "floor", key: "cpu", factor: 2, goal: 1.2},
			{peer: nginx, key: "cpu"},
		},
		start: func(ctx context.Context, s *session) ([]*target, error) {
			return s.startHTTP1(ctx, accessLog, haproxyOptions{accessLog: accessLog})
		},
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			one, err := s.closedLoop(ctx, t, func(d time.Duration) (closed, error) { return s.wrk(ctx, t, connections, d, "") })
			if err != nil {
				return nil, err
			}
			return one, s.rate(ctx, t, one, "-connections", strconv.Itoa(connections), "-rate", "1000")
		},
	}
}

// startHTTP1 starts the origin and every proxy for it.
func (s *session) startHTTP1(ctx context.Context, accessLog bool, h haproxyOptions) ([]*target, error) {
	o, err := s.startOrigin(ctx)
	if err != nil {
		return nil, err
	}
	c := sidecar{yaml: registryYAML([]entry{httpOrigin(o.address, "HTTP")}, others), accessLog: accessLog, captured: []captured{httpCaptured}}
	proxies, err := s.startPeers(ctx, map[string]func() (*target, error){
		egret:   func() (*target, error) { return s.startEgret(ctx, c, asks200) },
		envoy:   func() (*target, error) { return s.startEnvoy(ctx, c, asks200) },
		haproxy: func() (*target, error) { return s.startHAProxy(ctx, o.address, h, asks200) },
		nginx:   func() (*target, error) { return s.startNginx(ctx, o.address, accessLog) },
	})
	return append([]*target{o}, proxies...), err
}

// startPeers starts Egret's proxy, and those of the others that are wanted and there.
func (s *session) startPeers(ctx context.Context, start map[string]func() (*target, error)) (out []*target, err error) {
	for _, name := range []string{egret, envoy, haproxy, nginx} {
		f := start[name]
		if f == nil || name != egret && !s.hasPeer(name) {
			continue
		}
		t, err := f()
		if why, ok := skip(err); ok && name != egret {
			s.note("%s", why)
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, ctx.Err()
}

// closedLoop is the CPU time for a request under as much load as goes, after a second of
// the same load the first time.
func (s *session) closedLoop(ctx context.Context, t *target, load func(time.Duration) (closed, error)) (sample, error) {
	if !t.warm {
		if _, err := load(time.Second); err != nil {
			return nil, err
		}
		t.warm = true
	}
	var l closed
	spent, err := t.spent(func() (err error) { l, err = load(s.duration); return err })
	if err != nil {
		return nil, err
	}
	m, err := t.memory()
	if err != nil {
		return nil, err
	}
	return sample{
		"cpu": micro(spent) / float64(l.requests), "rate": float64(l.requests) / l.elapsed.Seconds(), "rss": m.rss / 1e6,
	}, ctx.Err()
}
