package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// closed is what a closed-loop load generator did: as much as it could.
type closed struct {
	requests int64
	elapsed  time.Duration
}

// wrkArgs is the command for HTTP/1.1, also as the tables name it.
func wrkArgs(address string, connections int, d time.Duration, script string) []string {
	args := []string{"-t1", "-c" + strconv.Itoa(connections), "-d" + strconv.Itoa(int(d.Seconds())) + "s",
		"--timeout", "10s", "-H", "Host: " + originHost}
	if script != "" {
		args = append(args, "-s", script)
	}
	return append(args, "http://"+address+"/")
}

// wrk loads a target over HTTP/1.1. Any answer but 2xx, and any failed connection, is
// an error.
func (s *session) wrk(ctx context.Context, t *target, connections int, d time.Duration, script string) (closed, error) {
	out, err := s.load(ctx, d, append([]string{s.tools["wrk"]}, wrkArgs(t.address, connections, d, script)...)...)
	if err != nil {
		return closed{}, err
	}
	return parseWrk(out)
}

var (
	wrkTotal  = regexp.MustCompile(`(?m)^\s*([0-9]+) requests in ([0-9.]+)(ms|s|m|h),`)
	wrkErrors = regexp.MustCompile(`(?m)^\s*(Socket errors:.*|Non-2xx or 3xx responses:.*)$`)
)

// parseWrk reads the report of wrk.
func parseWrk(out string) (closed, error) {
	if e := wrkErrors.FindStringSubmatch(out); e != nil {
		return closed{}, fmt.Errorf("wrk: %s", e[1])
	}
	m := wrkTotal.FindStringSubmatch(out)
	if m == nil {
		return closed{}, fmt.Errorf("wrk: no total in %q", out)
	}
	return newClosed("wrk", m[1], m[2]+m[3])
}

// newClosed reads the numbers of a report.
func newClosed(name, requestText, elapsedText string) (closed, error) {
	requests, err := strconv.ParseInt(requestText, 10, 64)
	if err != nil {
		return closed{}, fmt.Errorf("%s: %w", name, err)
	}
	elapsed, err := time.ParseDuration(elapsedText)
	if err != nil {
		return closed{}, fmt.Errorf("%s: %w", name, err)
	}
	if requests <= 0 || elapsed <= 0 {
		return closed{}, fmt.Errorf("%s: %d requests in %v", name, requests, elapsed)
	}
	return closed{requests: requests, elapsed: elapsed}, nil
}

// fixedRate is the result of "load rate"; bench/load has the units.
type fixedRate struct {
	Requests int     `json:"requests"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	P999     float64 `json:"p999_us"`
}

// rate loads a target at a fixed rate, and adds the latencies to a sample.
func (s *session) rate(ctx context.Context, t *target, into sample, extra ...string) error {
	var r fixedRate
	err := s.own(ctx, s.duration, &r, append([]string{"rate", "-address", t.address, "-host", originHost,
		"-duration", s.duration.String()}, extra...)...)
	if err != nil {
		return err
	}
	into["p50"], into["p99"], into["p999"] = r.P50, r.P99, r.P999
	return nil
}

// latencyColumns are what rate adds.
var latencyColumns = []column{
	{"p50", "p50 µs", 0}, {"p99", "p99 µs", 0}, {"p999", "p99.9 µs", 0},
}
