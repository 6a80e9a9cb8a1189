package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// run measures the chosen cases and prints what came out; the ratios come last.
func run(ctx context.Context, o options, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	r := &rig{options: o, out: out, tools: findTools()}
	for _, name := range []string{"nginx", "wrk", "taskset"} {
		if r.tools[name] == "" {
			return fmt.Errorf("%s is not installed: run bench/install", name)
		}
	}
	var err error
	if r.binaries, err = os.MkdirTemp("", "egret-bench-bin-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.binaries)
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"proxy", "load"} {
		if err := build(ctx, filepath.Join(r.binaries, name), name); err != nil {
			return err
		}
	}
	if r.proxyCore, r.otherCore, err = cores(); err != nil {
		return err
	}
	if r.proxyCore == r.otherCore {
		fmt.Fprintln(out, "note: one core only; proxy, origin and load share it")
	}
	if err := stayOn(r.otherCore); err != nil {
		return err
	}
	machine := describeMachine(ctx, r.tools)
	fmt.Fprintf(out, "%s\n", machine)
	reports, failed := r.runCases(ctx)
	fmt.Fprintln(out)
	for _, rep := range reports {
		for _, line := range rep.lines() {
			fmt.Fprintln(out, line)
		}
	}
	if o.write != "" && ctx.Err() == nil {
		failed = errors.Join(failed, updateResults(o.write, machine, reports))
	}
	return failed
}

// runCases measures one case after the other. One that fails does not keep the others
// from being measured.
func (r *rig) runCases(ctx context.Context) (reports []caseReport, failed error) {
	for _, c := range r.cases {
		rep, err := r.runCase(ctx, c)
		if ctx.Err() != nil {
			return reports, context.Cause(ctx)
		}
		if err != nil {
			rep.failed = err.Error()
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name, err))
			fmt.Fprintf(r.out, "FAIL %s %v\n", c.name, err)
		}
		reports = append(reports, rep)
	}
	return reports, failed
}

// runCase measures one case and prints its table.
func (r *rig) runCase(ctx context.Context, c benchCase) (caseReport, error) {
	rep := caseReport{benchCase: c, when: time.Now(), rounds: r.rounds, duration: r.duration, samples: samples{}}
	if c.rounds > 0 {
		rep.rounds = c.rounds
	}
	s, err := newSession(r, c.name)
	if err != nil {
		return rep, err
	}
	defer s.close()
	targets, err := c.start(ctx, s)
	if why, ok := skip(err); ok {
		rep.skipped = why
		fmt.Fprintf(r.out, "SKIP %s %s\n", c.name, why)
		return rep, nil
	}
	if err != nil {
		return rep, err
	}
	for round := range rep.rounds {
		for i := range targets { // each begins a round in its turn
			t := targets[(round+i)%len(targets)]
			if err := s.emptyLogs(); err != nil {
				return rep, err
			}
			one, err := c.measure(ctx, s, t)
			if err != nil {
				return rep, fmt.Errorf("round %d, %s: %w", round+1, t.name, err)
			}
			rep.samples[t.name] = append(rep.samples[t.name], one)
		}
	}
	for _, t := range targets {
		rep.targets = append(rep.targets, t.name)
	}
	for _, p := range s.planes {
		for _, nack := range p.Nacks() {
			return rep, fmt.Errorf("NACK: %s", nack)
		}
	}
	rep.load = loadAverage()
	rep.notes = slices.Sorted(maps.Keys(s.notes))
	_, err = fmt.Fprint(r.out, rep.text())
	return rep, err
}

// build builds a command of this folder's neighbour.
func build(ctx context.Context, binary, name string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "github.com/egret-mesh/egret/bench/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}
