package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Rate is the result of "rate". Latencies are in microseconds, each from the moment
// when the request was due, not from when it could be sent: requests that a slow answer
// keeps waiting count with their wait, so there is no coordinated omission.
type Rate struct {
	Requests  int     `json:"requests"`
	PerSecond float64 `json:"per_second"` // as it came out
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Max       float64 `json:"max_us"`
	// Late is the 99th percentile of how late the generator itself was.
	Late float64 `json:"late_p99_us"`
}

type rateOptions struct {
	address, host, path string
	workers             int
	perSecond           float64
	duration            time.Duration
	h2                  bool
}

func rate(ctx context.Context, args []string) (*Rate, error) {
	var o rateOptions
	flags := flag.NewFlagSet("rate", flag.ContinueOnError)
	flags.StringVar(&o.address, "address", "", "`address:port` to connect to")
	flags.StringVar(&o.host, "host", "", "Host of the requests")
	flags.StringVar(&o.path, "path", "/", "path of the requests")
	flags.IntVar(&o.workers, "connections", 16, "HTTP/1.1 connections; with -h2, requests at a time on one connection")
	flags.Float64Var(&o.perSecond, "rate", 1000, "requests per second")
	flags.DurationVar(&o.duration, "duration", 2*time.Second, "how long")
	flags.BoolVar(&o.h2, "h2", false, "HTTP/2 with prior knowledge")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	total := int(o.perSecond * o.duration.Seconds())
	if total < 1 || o.workers < 1 {
		return nil, fmt.Errorf("%d requests by %d workers is no load", total, o.workers)
	}
	askers, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range askers {
		defer a.close()
	}
	return o.run(ctx, askers, total)
}

// asker makes one request at a time, and fails unless the answer is 200.
type asker interface {
	ask(ctx context.Context) error
	close()
}

// connect opens all connections and makes one request on each, before anything is
// measured.
func (o rateOptions) connect(ctx context.Context) (out []asker, err error) {
	if o.h2 {
		out, err = newH2Askers(o)
	} else {
		out, err = newH1Askers(ctx, o)
	}
	for _, a := range out {
		if err == nil {
			err = a.ask(ctx)
		}
	}
	if err != nil {
		for _, a := range out {
			a.close()
		}
		return nil, err
	}
	return out, nil
}

func (o rateOptions) run(ctx context.Context, askers []asker, total int) (*Rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	due := make(chan time.Time, total) // never full: what is due never waits to be noted
	latencies := make([][]time.Duration, len(askers))
	var work sync.WaitGroup
	for i, a := range askers {
		work.Go(func() {
			for at := range due {
				if err := a.ask(ctx); err != nil {
					cancel(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(at))
			}
		})
	}
	start := time.Now()
	late := o.pace(ctx, due, start, total)
	close(due)
	work.Wait()
	elapsed := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	slices.Sort(late)
	return &Rate{
		Requests: len(all), PerSecond: float64(len(all)) / elapsed.Seconds(),
		P50: percentile(all, 0.5), P99: percentile(all, 0.99), P999: percentile(all, 0.999), Max: percentile(all, 1),
		Late: percentile(late, 0.99),
	}, nil
}

// pace puts into due when each request should begin. The thread sleeps in the kernel,
// as timers of the Go runtime may be up to a millisecond late.
func (o rateOptions) pace(ctx context.Context, due chan<- time.Time, start time.Time, total int) (late []time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range total {
		at := start.Add(time.Duration(float64(i) / o.perSecond * float64(time.Second)))
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			t := unix.NsecToTimespec(int64(wait))
			_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &t, nil) // interrupted: the loop looks again
		}
		if ctx.Err() != nil {
			return late
		}
		late = append(late, time.Since(at))
		due <- at
	}
	return late
}

// percentile of sorted durations, in microseconds: the smallest one that at least the
// part q of all does not exceed.
func percentile(sorted []time.Duration, q float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	i := int(float64(n)*q+0.999999) - 1
	return float64(sorted[min(max(i, 0), n-1)]) / float64(time.Microsecond)
}
