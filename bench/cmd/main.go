// Command cmd compares Egret's proxy with Envoy, HAProxy and nginx: same routes, same
// access log setting, same load, case by case (bench/README.md has the list). It starts
// everything on loopback, and stops what it started.
//
// It must not compare figures of different runs: machines are shared and noisy, so only
// ratios within one round of one run mean something. And it must not report a case in
// which a request failed: refusing is fast.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	names := flag.String("cases", "all", "`names` of cases, with commas; a final * stands for any end; all: every one")
	list := flag.Bool("list", false, "list the cases and end")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each proxy is measured, in turns")
	seconds := flag.Int("seconds", 2, "how many seconds one measurement takes")
	flag.StringVar(&o.write, "write", "", "`file` (bench/RESULTS.md) whose tables are replaced by what was measured")
	flag.StringVar(&o.profile, "profile", "", "`folder` for CPU profiles of Egret's proxy, one for each case; they are in the figures")
	flag.StringVar(&o.peers, "peers", "envoy,haproxy,nginx", "`names` of whom to compare with")
	flag.Parse()
	o.duration = time.Duration(*seconds) * time.Second
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := o.choose(*names)
	switch {
	case err != nil:
	case *list:
		for _, c := range o.cases {
			fmt.Printf("%s\t%s\n", c.name, c.about)
		}
	default:
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	cases    []benchCase
	rounds   int
	duration time.Duration
	write    string
	profile  string
	peers    string
}

func (o options) hasPeer(name string) bool {
	for p := range strings.SplitSeq(o.peers, ",") {
		if strings.TrimSpace(p) == name {
			return true
		}
	}
	return false
}

// choose takes the cases that the list names, in their own order.
func (o *options) choose(list string) error {
	if o.rounds < 1 || o.duration < time.Second {
		return fmt.Errorf("at least one round of one second is needed")
	}
	chosen := map[string]bool{}
	for pattern := range strings.SplitSeq(list, ",") {
		found := false
		for _, c := range allCases() {
			if matches(strings.TrimSpace(pattern), c.name) {
				chosen[c.name], found = true, true
			}
		}
		if !found {
			return fmt.Errorf("-cases: there is no case %q (-list lists them)", pattern)
		}
	}
	for _, c := range allCases() {
		if chosen[c.name] {
			o.cases = append(o.cases, c)
		}
	}
	return nil
}

func matches(pattern, name string) bool {
	if pattern == "all" {
		return true
	}
	start, any := strings.CutSuffix(pattern, "*")
	return name == pattern || any && strings.HasPrefix(name, start)
}
