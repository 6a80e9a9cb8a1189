// Package lab performs the egress lab on a Kubernetes cluster: it types the lab's
// commands as they stand, with the real kubectl and with istioctl, checks what each is
// expected to print, and measures each cell of the lab's table from that.
//
// It must not look into the proxies or the control plane: it sees what a user sees.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	table "github.com/egret-mesh/egret/internal/lab"

	"github.com/egret-mesh/egret/e2e/internal/term"
)

// Lab is one run.
type Lab struct {
	Shell term.Shell
	// Examples is the folder of the lab's YAML files; Shell.Dir is where the commands
	// find them.
	Examples string
	// InstallFlags come after those of the lab, for a cluster that needs them.
	InstallFlags string
	// System are patterns of the pods that step 1 has to show.
	System []string
	Table  []table.Row
	Times  []Time
	// differences are what was not as expected.
	differences []string
}

// Time is how long something took.
type Time struct {
	What string
	Took time.Duration
}

// patience is how long an expected state may take.
const patience = 90 * time.Second

// Run performs the steps 1 to 11. The error names every difference.
func (l *Lab) Run(ctx context.Context) error {
	if err := os.CopyFS(l.Shell.Dir, os.DirFS(l.Examples)); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		l.operational, l.client, l.install, l.validate, l.withoutSidecar, l.injection,
		l.serviceEntry, l.whyBlocked, l.gatewayLogs, l.routeThroughGateway, l.verifyRouting,
	} {
		if err := step(ctx); err != nil {
			l.differences = append(l.differences, err.Error())
			break // every further step would only show the same
		}
	}
	if len(l.differences) > 0 {
		return errors.New("the lab differs:\n" + strings.Join(l.differences, "\n"))
	}
	return nil
}

// Summary is the lab's table as it was measured.
func (l *Lab) Summary() string { return table.FormatTable(l.Table) }

func (l *Lab) step(number int, title string) {
	fmt.Fprintf(l.Shell.Out, "\n## %d. %s\n", number, title)
}

func (l *Lab) say(text string) { fmt.Fprintf(l.Shell.Out, "\n%s\n", text) }

// must types a command that has to work, and whose output has to match each pattern.
func (l *Lab) must(ctx context.Context, line string, patterns ...string) (term.Result, error) {
	r, err := l.Shell.Run(ctx, line)
	if err != nil {
		return r, err
	}
	l.Shell.Show(r)
	if r.ExitCode != 0 {
		return r, fmt.Errorf("%q ended with exit status %d", line, r.ExitCode)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(r.Output) {
			return r, fmt.Errorf("%q did not print what was expected: %s", line, p)
		}
	}
	return r, nil
}

// until types a command until it prints all that is expected.
func (l *Lab) until(ctx context.Context, line string, patterns ...string) (term.Result, error) {
	return l.Shell.Until(ctx, patience, line, func(r term.Result) bool {
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(r.Output) {
				return false
			}
		}
		return r.ExitCode == 0
	})
}

var statusLine = regexp.MustCompile(`(?m)^HTTP/\S+ (\d{3})\b`)

// outcome reads what curl printed.
func outcome(r term.Result) table.Outcome {
	o := table.Outcome{ExitCode: r.ExitCode}
	for _, m := range statusLine.FindAllStringSubmatch(r.Output, -1) {
		code, _ := strconv.Atoi(m[1]) // three digits, by the pattern
		o.Statuses = append(o.Statuses, code)
	}
	return o
}

const (
	wikipedia = "www.wikipedia.org"
	google    = "www.google.com"
)

// curl is the lab's request.
func curl(host string) string {
	return "kubectl exec -ti test -- curl --head -L http://" + host
}

// call makes one request of the table until it is what the lab says.
func (l *Lab) call(ctx context.Context, host string, want table.Mark) (table.Cell, error) {
	cell := table.Cell{Want: want}
	r, err := l.Shell.Until(ctx, patience, curl(host), func(r term.Result) bool {
		got := outcome(r).Mark()
		return got == want || want == table.ViaGateway && got == table.Allowed
	})
	cell.Got = outcome(r)
	return cell, err
}

// row makes both requests of a row and adds it to the table, as it was measured.
func (l *Lab) row(ctx context.Context, row table.Row) error {
	var first, second error
	row.Wikipedia, first = l.call(ctx, wikipedia, row.Wikipedia.Want)
	row.Google, second = l.call(ctx, google, row.Google.Want)
	l.Table = append(l.Table, row)
	return errors.Join(first, second)
}

// newTestPod runs the lab's pod and waits until it is ready.
func (l *Lab) newTestPod(ctx context.Context, what string) error {
	start := time.Now()
	if _, err := l.must(ctx, "kubectl run test --image=nginx", `pod/test created`); err != nil {
		return err
	}
	if _, err := l.must(ctx, "kubectl wait --for=condition=Ready pod/test --timeout=90s"); err != nil {
		_, _ = l.must(ctx, "kubectl describe pod test | tail -40; kubectl logs test --all-containers --tail=20")
		return err
	}
	l.Times = append(l.Times, Time{what, time.Since(start)})
	return nil
}
