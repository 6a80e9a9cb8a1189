// Command cmd compares Egret's sidecar with nginx and HAProxy as HTTP/1.1 proxies: the
// CPU time of the proxy for one request, all measured in one run, in turns, on this
// machine. It starts everything on loopback, and stops what it started.
//
// It must not compare figures of different runs: machines are shared and noisy, so
// only ratios within one run mean something.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	connections := flag.String("connections", "16,128", "numbers of connections, with commas")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each proxy is measured, in turns")
	flag.DurationVar(&o.duration, "duration", 4*time.Second, "how long one measurement takes")
	flag.DurationVar(&o.warmup, "warmup", time.Second, "load before each measurement")
	flag.IntVar(&o.entries, "entries", 100, "services in Egret's registry besides the origin")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := parseConnections(*connections, &o)
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	connections      []int
	rounds           int
	duration, warmup time.Duration
	entries          int
}

// total bounds the whole run.
func (o options) total(proxies int) time.Duration {
	one := o.duration + o.warmup + 2*loadGrace
	return time.Minute + time.Duration(o.rounds*len(o.connections)*proxies)*one
}

func parseConnections(list string, o *options) error {
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > 10_000 {
			return fmt.Errorf("-connections: %q is not a number from 1 to 10000", s)
		}
		o.connections = append(o.connections, n)
	}
	if o.rounds < 1 || o.duration < time.Second || o.warmup < 0 {
		return errors.New("at least one round of one second is needed")
	}
	return nil
}
