package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// loadGrace is how much longer than its duration one load may take.
const loadGrace = 15 * time.Second

// load is what one run of the load generator did.
type load struct {
	requests int64
	elapsed  time.Duration
}

// load runs wrk against a target. Any answer but 2xx, and any failed connection, is
// an error: a proxy that refuses is fast and measures nothing.
func (b *bench) load(ctx context.Context, t *target, connections int, d time.Duration) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, d+loadGrace)
	defer cancel()
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	args := b.pinned(b.otherCore, b.tools["wrk"], "-t1", "-c"+strconv.Itoa(connections),
		"-d"+strconv.Itoa(seconds)+"s", "--timeout", "10s", "-H", "Host: "+originHost, "http://"+t.address+"/")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkTotal  = regexp.MustCompile(`(?m)^\s*([0-9]+) requests in ([0-9.]+)(ms|s|m|h),`)
	wrkErrors = regexp.MustCompile(`(?m)^\s*(Socket errors:.*|Non-2xx or 3xx responses:.*)$`)
)

// parseWrk reads the report of wrk.
func parseWrk(out string) (load, error) {
	if e := wrkErrors.FindStringSubmatch(out); e != nil {
		return load{}, fmt.Errorf("wrk: %s", e[1])
	}
	m := wrkTotal.FindStringSubmatch(out)
	if m == nil {
		return load{}, fmt.Errorf("wrk: no total in %q", out)
	}
	requests, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w", err)
	}
	elapsed, err := time.ParseDuration(m[2] + m[3])
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w", err)
	}
	if requests == 0 || elapsed <= 0 {
		return load{}, fmt.Errorf("wrk: %d requests in %v", requests, elapsed)
	}
	return load{requests: requests, elapsed: elapsed}, nil
}
