package main

import (
	"context"
	"fmt"
	"time"
)

// changeEvery is how often the configuration changes.
const changeEvery = 100 * time.Millisecond

// churnCase is load while the configuration changes all the time.
func churnCase() benchCase {
	return benchCase{
		name: "churn",
		about: fmt.Sprintf("HTTP/1.1, 1 KB answers, 1000 requests/s, access log on, while a ServiceEntry comes or goes every %v: `load rate -connections 16 -rate 1000`, "+
			"once without changes and once with; the control plane has made both configurations before, and only sends; a request that fails ends the run", changeEvery),
		columns: []column{
			{"p50", "p50 µs", 0}, {"p99", "p99 µs", 0}, {"p999", "p99.9 µs", 0},
			{"churn50", "with changes: p50 µs", 0}, {"churn", "p99 µs", 0}, {"churn999", "p99.9 µs", 0},
			{"changes", "changes", 0}, {"cpu", "CPU ms/change", 1},
		},
		ratios: []ratio{
			{peer: egret, label: "steady", key: "churn", of: "p99", goal: 1.5},
			{peer: envoy, key: "churn"},
		},
		start: func(ctx context.Context, s *session) ([]*target, error) {
			targets, err := s.startHTTP1(ctx, true, haproxyOptions{accessLog: true})
			var out []*target
			for _, t := range targets {
				if t.change != nil {
					out = append(out, t)
				}
			}
			return out, err
		},
		measure: measureChurn,
	}
}

func measureChurn(ctx context.Context, s *session, t *target) (sample, error) {
	if !t.warm {
		for n := range 2 { // the control plane makes both configurations, once
			if err := t.change(n); err != nil {
				return nil, err
			}
			if _, err := s.wrk(ctx, t, 16, time.Second, ""); err != nil {
				return nil, err
			}
		}
		t.warm = true
	}
	steady, churned := sample{}, sample{}
	calm, err := t.spent(func() error { return s.rate(ctx, t, steady, "-rate", "1000") })
	if err != nil {
		return nil, err
	}
	changed := make(chan error, 1)
	during, stop := context.WithCancel(ctx)
	defer stop()
	n := 0
	go func() { changed <- t.keepChanging(during, &n) }()
	spent, err := t.spent(func() error { return s.rate(ctx, t, churned, "-rate", "1000") })
	stop()
	if changeErr := <-changed; err == nil {
		err = changeErr
	}
	if err != nil {
		return nil, err
	}
	if want := int(s.duration / changeEvery / 2); n < want {
		return nil, fmt.Errorf("only %d changes in %v", n, s.duration)
	}
	return sample{
		"p50": steady["p50"], "p99": steady["p99"], "p999": steady["p999"],
		"churn50": churned["p50"], "churn": churned["p99"], "churn999": churned["p999"],
		"changes": float64(n), "cpu": (spent - calm).Seconds() * 1e3 / float64(n),
	}, nil
}

// keepChanging makes changes until ctx ends, and leaves an even number of them: then
// the configuration is as it was.
func (t *target) keepChanging(ctx context.Context, n *int) error {
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if *n%2 == 1 {
				return t.change(*n)
			}
			return nil
		case <-tick.C:
			if err := t.change(*n); err != nil {
				return err
			}
			*n++
		}
	}
}
