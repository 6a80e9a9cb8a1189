// Package scenario is what the lab does not ask and users do: a table of scenarios,
// each some commands with what they must print, on the cluster that the lab left.
//
// It must not look into the proxies or the control plane: it sees what a user sees.
package scenario

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/egret-mesh/egret/e2e/internal/term"
)

// Scenario is one of the table.
type Scenario struct {
	// Name is the word to select it by, What says what it shows.
	Name, What string
	Steps      []Step
	// Undo are commands that take away what it made, whatever came of it.
	Undo []string
	// Node says what it does to the node itself, which only a node of our own may suffer.
	Node string
}

// Step is one command.
type Step struct {
	// Run is typed as it stands.
	Run string
	// Want has to match what it prints; empty matches all.
	Want string
	// Not must not match.
	Not string
	// Within is how long the command may be typed again until it prints what is wanted;
	// 0 means that the first time counts.
	Within time.Duration
	// Fails: the command has to end with a status that is not 0.
	Fails bool
	// Behind: it runs while the steps after it do; its end is waited for, and what it
	// printed judged, after the last.
	Behind bool
}

// judge says what is wrong with a result; empty is nothing.
func (s Step) judge(r term.Result) string {
	switch {
	case (r.ExitCode != 0) != s.Fails:
		return fmt.Sprintf("exit status %d", r.ExitCode)
	case s.Want != "" && !regexp.MustCompile(s.Want).MatchString(r.Output):
		return "it does not print what is wanted: " + s.Want
	case s.Not != "" && regexp.MustCompile(s.Not).MatchString(r.Output):
		return "it prints what it must not: " + s.Not
	}
	return ""
}

// Outcome is what came of one scenario.
type Outcome struct {
	Scenario Scenario
	// Err is nil where all was as expected.
	Err  error
	Took time.Duration
	// Skipped says why it did not run.
	Skipped string
}

// state is what somebody who looks for the reason of a difference asks first.
const state = "kubectl get pods -A; kubectl get events -A --sort-by=.lastTimestamp | tail -n 20; " +
	"kubectl logs -n istio-system deploy/istiod --tail=20; istioctl proxy-status; istioctl proxy-config routes test"

//go:embed objects
var objects embed.FS

// Run runs the scenarios in order on a cluster; the objects that they apply are written
// to the shell's folder.
func Run(ctx context.Context, sh term.Shell, on Cluster, all []Scenario) ([]Outcome, error) {
	if err := writeObjects(sh.Dir, on); err != nil {
		return nil, err
	}
	var out []Outcome
	for _, s := range all {
		if s.Node != "" && on.Foreign {
			out = append(out, Outcome{Scenario: s, Skipped: s.Node})
			continue
		}
		fmt.Fprintf(sh.Out, "\n## %s: %s\n", s.Name, s.What)
		start := time.Now()
		err := s.run(ctx, sh)
		after := s.Undo
		if err != nil {
			after = append([]string{state}, s.Undo...)
		}
		for _, line := range after {
			if r, runErr := sh.Run(ctx, line); runErr == nil {
				sh.Show(r)
			}
		}
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintf(sh.Out, "\nDIFFERS: %v\n", err)
		}
		out = append(out, Outcome{Scenario: s, Err: err, Took: time.Since(start)})
	}
	return out, nil
}

func writeObjects(dir string, on Cluster) error {
	entries, err := fs.ReadDir(objects, "objects")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := objects.ReadFile("objects/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), []byte(on.local(string(data))), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// running is a step that goes on behind others.
type running struct {
	step   Step
	result chan term.Result
	err    chan error
}

func (s Scenario) run(ctx context.Context, sh term.Shell) error {
	var behind []running
	var err error
	for _, step := range s.Steps {
		if step.Behind {
			behind = append(behind, startBehind(ctx, sh, step))
			continue
		}
		if err = one(ctx, sh, step); err != nil {
			break
		}
	}
	for _, b := range behind {
		err = errors.Join(err, b.wait(sh))
	}
	return err
}

func one(ctx context.Context, sh term.Shell, step Step) error {
	if step.Within > 0 {
		r, err := sh.Until(ctx, step.Within, step.Run, func(r term.Result) bool { return step.judge(r) == "" })
		if err != nil {
			return fmt.Errorf("%w: %s", err, step.judge(r))
		}
		return nil
	}
	r, err := sh.Run(ctx, step.Run)
	if err != nil {
		return err
	}
	sh.Show(r)
	if wrong := step.judge(r); wrong != "" {
		return fmt.Errorf("%q: %s", step.Run, wrong)
	}
	return nil
}

func startBehind(ctx context.Context, sh term.Shell, step Step) running {
	fmt.Fprintf(sh.Out, "\n$ %s &\n", step.Run)
	b := running{step, make(chan term.Result, 1), make(chan error, 1)}
	go func() {
		r, err := sh.Run(ctx, step.Run)
		b.result <- r
		b.err <- err
	}()
	return b
}

func (b running) wait(sh term.Shell) error {
	r, err := <-b.result, <-b.err
	if err != nil {
		return err
	}
	sh.Show(r)
	if wrong := b.step.judge(r); wrong != "" {
		return fmt.Errorf("%q: %s", b.step.Run, wrong)
	}
	return nil
}

// Select are the scenarios whose name has one of some words in it (with commas between
// them); "none" selects nothing, the empty word all.
func Select(all []Scenario, words string) []Scenario {
	var out []Scenario
	for _, s := range all {
		for _, word := range strings.Split(words, ",") {
			if strings.Contains(s.Name, word) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// Format prints what came of each scenario.
func Format(outcomes []Outcome) string {
	var b strings.Builder
	for _, o := range outcomes {
		if o.Skipped != "" {
			fmt.Fprintf(&b, "- %-28s skipped: it %s\n", o.Scenario.Name, o.Skipped)
			continue
		}
		mark := "✔"
		if o.Err != nil {
			mark = "❌"
		}
		fmt.Fprintf(&b, "%s %-28s %5.1f s  %s\n", mark, o.Scenario.Name, o.Took.Seconds(), o.Scenario.What)
	}
	return b.String()
}
