package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// memoryCase is the memory of a proxy at rest.
func memoryCase(name string, entries int) benchCase {
	about := "a sidecar with no ServiceEntry but the origin's"
	if entries > 0 {
		about = fmt.Sprintf("a sidecar with %d ServiceEntries in scope, each with the ports 80 HTTP and 443 TLS and one static endpoint", entries)
	}
	return benchCase{
		name:    name,
		about:   about + ", at rest: RSS and PSS of the proxy's process alone; Envoy with Istio's stats matcher, which keeps it from counting per cluster",
		columns: []column{{"rss", "RSS MB", 1}, {"pss", "PSS MB", 1}},
		ratios:  []ratio{{peer: envoy, key: "rss", goal: 1.0 / 3}, {suffix: "-pss", peer: envoy, key: "pss", goal: 1.0 / 3}},
		rounds:  1,
		start: func(ctx context.Context, s *session) ([]*target, error) {
			o, err := s.startOrigin(ctx)
			if err != nil {
				return nil, err
			}
			c := sidecar{yaml: memoryYAML(o.address, entries), accessLog: true, captured: []captured{httpCaptured}, fewStats: true}
			return s.startPeers(ctx, map[string]func() (*target, error){
				egret: func() (*target, error) { return s.startEgret(ctx, c, asks200) },
				envoy: func() (*target, error) { return s.startEnvoy(ctx, c, asks200) },
			})
		},
		measure: func(ctx context.Context, _ *session, t *target) (sample, error) {
			m, err := t.settledMemory(ctx)
			return sample{"rss": m.rss / 1e6, "pss": m.pss / 1e6}, err
		},
	}
}

func memoryYAML(origin string, entries int) string {
	var b strings.Builder
	httpOrigin(origin, "HTTP").yaml(&b)
	for i := range entries {
		entry{name: fmt.Sprintf("entry-%d", i), host: fmt.Sprintf("host-%d.bench.test", i),
			ports: []entryPort{{httpPort, "HTTP", origin}, {tlsPort, "TLS", origin}}}.yaml(&b)
	}
	return b.String()
}

// settledMemory waits until the memory of a target stays as it is: within 1 % for five
// seconds, or for a minute at most.
func (t *target) settledMemory(ctx context.Context) (memory, error) {
	const window, most = 5, 60
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var seen []memory
	for {
		m, err := t.memory()
		if err != nil {
			return memory{}, err
		}
		seen = append(seen, m)
		if n := len(seen); n > window && (steady(seen[n-1-window:]) || n > most) {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return memory{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// steady says whether RSS stays within 1 %.
func steady(seen []memory) bool {
	least, most := seen[0].rss, seen[0].rss
	for _, m := range seen {
		least, most = min(least, m.rss), max(most, m.rss)
	}
	return most-least <= most/100
}
