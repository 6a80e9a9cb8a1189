package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

const tableHead = `| entries | proxies | form | full load | its CPU | sent | memory, peak | changed host held by | last ACK p50 | p99 | CPU per change | sent per change | resources, needed |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// patience bounds the wait for one thing.
const patience = 5 * time.Minute

// bench is one case under way.
type bench struct {
	measured
	plane   *plane
	policy  *policy
	fleet   *fleet
	proxies []*proxy
}

func measure(ctx context.Context, o options, m measured) (string, error) {
	dir, err := os.MkdirTemp("", "egret-xds-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{measured: m,
		policy: &policy{folder: dir, entries: m.entries, files: o.files, version: map[int]int{}},
		fleet:  &fleet{progress: make(chan struct{}, 1), failed: make(chan error, 1)},
	}
	if err := b.policy.writeAll(); err != nil {
		return "", err
	}
	begun := time.Now()
	if b.plane, err = startPlane(ctx, o.egretd, dir); err != nil {
		return "", err
	}
	defer b.plane.stop()
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range m.proxies {
		p := newProxy(b.fleet, i, m, o.names)
		b.proxies = append(b.proxies, p)
		all.Go(func() {
			if err := p.run(ctx, b.plane.address); ctx.Err() == nil {
				select {
				case b.fleet.failed <- err:
				default:
				}
			}
		})
	}
	if err := b.until(ctx, b.loaded); err != nil {
		return "", err
	}
	loaded := time.Since(begun)
	cpu, err := b.plane.cpu()
	if err != nil {
		return "", err
	}
	head := fmt.Sprintf("| %d | %d | %s | %.1f s | %.1f s | %d MB ", m.entries, m.proxies, m.form(), loaded.Seconds(), cpu.Seconds(), b.fleet.bytes.Load()>>20)
	return b.changes(ctx, o, head)
}

// until waits until done, which is asked after every response.
func (b *bench) until(ctx context.Context, done func() bool) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for !done() {
		select {
		case <-b.fleet.progress:
		case err := <-b.fleet.failed:
			return fmt.Errorf("a proxy's stream ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return errors.New("it takes too long")
		}
	}
	return nil
}

func (b *bench) loaded() bool {
	for _, p := range b.proxies {
		if int(p.got.Load()) < p.expect {
			return false
		}
	}
	return true
}

// changes measures changes of a host that all proxies hold, and of one that few do.
func (b *bench) changes(ctx context.Context, o options, head string) (string, error) {
	out := ""
	entries := []int{0}
	if b.onDemand && b.entries > 2*o.names {
		entries = append(entries, b.entries/2)
	}
	for _, entry := range entries {
		holders := 0
		for _, p := range b.proxies {
			if p.hosts == nil || slices.Contains(p.hosts, entry) {
				holders++
			}
		}
		if holders == 0 {
			continue
		}
		r, err := b.rounds(ctx, o.change, entry, holders)
		if err != nil {
			return "", err
		}
		now, peak := b.plane.memory()
		out += fmt.Sprintf("%s| %d, %d MB | %d | %s\n", head, now, peak, holders, r)
		head = "| | | | | | "
	}
	return out, nil
}

// rest is the time between two changes, in which the control plane comes to rest.
const rest = 150 * time.Millisecond

// rounds changes an entry again and again.
func (b *bench) rounds(ctx context.Context, n, entry, holders int) (string, error) {
	var times []time.Duration
	if err := pause(ctx, time.Second); err != nil {
		return "", err
	}
	cpu, err := b.plane.cpu()
	if err != nil {
		return "", err
	}
	resources, bytes := b.fleet.resources.Load(), b.fleet.bytes.Load()
	for range n {
		want := b.fleet.clusters.Load() + 2*int64(holders)
		written := time.Now()
		if err := b.policy.change(entry); err != nil {
			return "", err
		}
		if err := b.until(ctx, func() bool { return b.fleet.clusters.Load() >= want }); err != nil {
			return "", err
		}
		times = append(times, time.Since(written))
		if err := pause(ctx, rest); err != nil {
			return "", err
		}
	}
	used, err := b.plane.cpu()
	if err != nil {
		return "", err
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%.0f ms | %.0f ms | %.1f ms | %.0f kB | %d, %d |", ms(times[n/2]), ms(times[n*99/100]),
		ms((used-cpu)/time.Duration(n)), float64(b.fleet.bytes.Load()-bytes)/float64(n)/1000,
		(b.fleet.resources.Load()-resources)/int64(n), 2*holders), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
