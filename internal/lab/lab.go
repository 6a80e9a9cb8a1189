// Package lab performs the egress lab on one machine: it types the commands of the
// lab, as they stand, into a shell, shows what they print, and measures each cell of
// the lab's table from that.
//
// It must not reach into the proxies: it sees what a user sees, the output of
// commands and the access log.
package lab

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/examples"
)

// Options of a run.
type Options struct {
	// Egret is the path of the egret program.
	Egret string
	// Dir is the working folder: the examples, the policy and the logs are put there.
	Dir string
	// Out gets the transcript; nil for none.
	Out io.Writer
}

// Report is what happened, for people and machines.
type Report struct {
	Steps []Step `json:"steps"`
	Table []Row  `json:"table"`
	OK    bool   `json:"ok"`
}

// Step is one step of the lab.
type Step struct {
	Number   int       `json:"number"`
	Title    string    `json:"title"`
	Commands []Command `json:"commands"`
}

// Command is one command as it was typed, and what came of it.
type Command struct {
	Line     string `json:"command"`
	Output   string `json:"output"`
	ExitCode int    `json:"exit_code"`
}

type runner struct {
	Options
	client string // "curl", or egret's own client
	env    []string
	report *Report
}

// Run performs the lab. The error is about the lab itself; a cell that differs makes
// Report.OK false.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	r := &runner{Options: o, report: &Report{}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		r.install, r.withoutSidecar, r.registryOnly, r.serviceEntry, r.egressGateway,
	} {
		if err := step(ctx); err != nil {
			return r.report, err
		}
	}
	r.report.OK = true
	for _, row := range r.report.Table {
		r.report.OK = r.report.OK && row.Wikipedia.OK() && row.Google.OK()
	}
	fmt.Fprint(r.Out, "\n## Summary: what was measured\n\n"+FormatTable(r.report.Table))
	return r.report, nil
}

// Environment is what the lab's commands, and a shell in the finished lab, run with.
func Environment(dir string) []string {
	return append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// prepare lays out the working folder: bin/egret, examples/, policy/, logs/.
func (r *runner) prepare() error {
	for _, d := range []string{"bin", "policy", "logs"} {
		if err := os.MkdirAll(filepath.Join(r.Dir, d), 0o755); err != nil {
			return err
		}
	}
	link := filepath.Join(r.Dir, "bin", "egret")
	if err := os.Symlink(r.Egret, link); err != nil && !os.IsExist(err) {
		return err
	}
	r.env = Environment(r.Dir)
	r.client = "curl"
	if _, err := exec.LookPath("curl"); err != nil {
		r.client = "egret client"
		fmt.Fprintln(r.Out, "curl is not installed, so the lab uses a small client of egret's own.")
	}
	return fs.WalkDir(examples.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := examples.Files.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(r.Dir, "examples", path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
}

func (r *runner) step(number int, title string) {
	fmt.Fprintf(r.Out, "\n## %d. %s\n", number, title)
	r.report.Steps = append(r.report.Steps, Step{Number: number, Title: title, Commands: []Command{}})
}

// say explains what follows, in the words of the lab.
func (r *runner) say(text string) { fmt.Fprintf(r.Out, "\n%s\n", text) }

// do types a command and shows what it prints.
func (r *runner) do(ctx context.Context, line string) (Command, error) {
	fmt.Fprintf(r.Out, "\n$ %s\n", line)
	cmd, err := typeCommand(ctx, r.Dir, r.env, line)
	if err != nil {
		return cmd, fmt.Errorf("%q: %w", line, err)
	}
	fmt.Fprint(r.Out, cmd.Output)
	if cmd.ExitCode != 0 {
		fmt.Fprintf(r.Out, "(exit status %d)\n", cmd.ExitCode)
	}
	last := &r.report.Steps[len(r.report.Steps)-1]
	last.Commands = append(last.Commands, cmd)
	return cmd, nil
}

// must is do, for commands without which the lab makes no sense.
func (r *runner) must(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		cmd, err := r.do(ctx, line)
		if err != nil {
			return err
		}
		if cmd.ExitCode != 0 {
			return fmt.Errorf("%q ended with exit status %d", line, cmd.ExitCode)
		}
	}
	return nil
}

const (
	wikipedia  = "http://www.wikipedia.org"
	google     = "http://www.google.com"
	gatewayLog = "logs/istio-egressgateway.log"
	inMesh     = "egret run -f policy --access-log logs -- "
)

var statusLine = regexp.MustCompile(`(?m)^HTTP/\S+ (\d{3})\b`)

// call types one call of the lab and measures its outcome.
func (r *runner) call(ctx context.Context, prefix, url string) (Outcome, error) {
	before := r.gatewayLines(url)
	cmd, err := r.do(ctx, prefix+r.client+" --head -L "+url)
	if err != nil {
		return Outcome{}, err
	}
	var o Outcome
	for _, m := range statusLine.FindAllStringSubmatch(cmd.Output, -1) {
		code, _ := strconv.Atoi(m[1]) // three digits, by the pattern
		o.Statuses = append(o.Statuses, code)
	}
	o.ExitCode = cmd.ExitCode
	o.GatewayLines = r.gatewayLines(url) - before
	return o, nil
}

// gatewayLines counts the lines of the egress gateway's access log that are about
// the URL's host.
func (r *runner) gatewayLines(url string) int {
	data, err := os.ReadFile(filepath.Join(r.Dir, gatewayLog))
	if err != nil {
		return 0 // not written yet
	}
	host := strings.TrimPrefix(url, "http://")
	n := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, host) {
			n++
		}
	}
	return n
}

// measure makes both calls of a scenario and adds its row to the table.
func (r *runner) measure(ctx context.Context, prefix string, row Row) error {
	var err error
	if row.Wikipedia.Got, err = r.call(ctx, prefix, wikipedia); err != nil {
		return err
	}
	if row.Google.Got, err = r.call(ctx, prefix, google); err != nil {
		return err
	}
	r.report.Table = append(r.report.Table, row)
	return nil
}
