package scenario

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egret-mesh/egret/internal/interop"
	"github.com/egret-mesh/egret/internal/lab"
)

const (
	// envoyEnv names the Envoy to test with ("make interop"); empty: TestInterop is skipped.
	envoyEnv = "EGRET_INTEROP_ENVOY"
	// cellEnv is the combination that a script's "egret run" makes; empty: the real one.
	cellEnv = "EGRET_INTEROP_CELL"
	// egretdEnv, when it is not empty, makes the control plane egretd, a process of its own.
	egretdEnv = "EGRET_INTEROP_EGRETD"
	// cellsEnv are the cells to run, with commas; empty: all.
	cellsEnv = "EGRET_INTEROP_CELLS"
)

var allCells = []interop.Cell{
	{Sidecar: interop.Egret, Gateway: interop.Egret}, {Sidecar: interop.Egret, Gateway: interop.Envoy},
	{Sidecar: interop.Envoy, Gateway: interop.Egret}, {Sidecar: interop.Envoy, Gateway: interop.Envoy},
}

// TestInterop runs the scripts that carry traffic with each combination of proxies, and
// prints the matrix. The first line of a script that carries none says so: "[interop] skip".
func TestInterop(t *testing.T) {
	if os.Getenv(envoyEnv) == "" {
		t.Skip("make interop runs this, with Envoy")
	}
	results := newMatrix()
	for _, cell := range allCells {
		if only := os.Getenv(cellsEnv); only != "" && !slices.Contains(strings.Split(only, ","), cell.String()) {
			continue
		}
		t.Run(cell.String(), func(t *testing.T) {
			p := parameters(cell, "interop")
			p.Setup = func(env *testscript.Env) error {
				results.watch(cell, env)
				return setUpInterop(env, cell)
			}
			testscript.Run(t, p)
		})
	}
	if diff := results.compareLogs(); diff != "" {
		t.Errorf("access logs differ:\n%s", diff)
	}
	fmt.Print(results.String())
}

func setUpInterop(env *testscript.Env, cell interop.Cell) error {
	if err := setUpWorld(env); err != nil {
		return err
	}
	env.Setenv(cellEnv, cell.String())
	env.Setenv("CELL", cell.String())
	env.Setenv(envoyEnv, os.Getenv(envoyEnv))
	env.Setenv(binaryEnv, os.Getenv(binaryEnv))
	return nil
}

// egret is the program that scripts call in TestInterop: "run" and "lab" are done with
// the proxies of the cell, all else by the real program.
func egret() {
	code, err := egretMain(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "egret:", err)
		code = cmp.Or(code, 125)
	}
	os.Exit(code)
}

func egretMain(args []string) (int, error) {
	switch {
	case len(args) > 0 && args[0] == "run":
		return egretRun(args[1:])
	case len(args) > 0 && args[0] == "lab":
		return egretLab(slices.Contains(args, "json"))
	}
	real := os.Getenv(binaryEnv)
	return 1, syscall.Exec(real, append([]string{"egret"}, args...), os.Environ())
}

func egretRun(args []string) (int, error) {
	cell, err := interop.ParseCell(os.Getenv(cellEnv))
	if err != nil {
		return 0, err
	}
	o := interop.Options{Cell: cell, Programs: interop.Programs{
		Envoy: os.Getenv(envoyEnv), EgretProxy: filepath.Join(filepath.Dir(os.Getenv(binaryEnv)), "egret-proxy"),
	}}
	if os.Getenv(egretdEnv) != "" {
		o.Programs.Egretd = filepath.Join(filepath.Dir(os.Getenv(binaryEnv)), "egretd")
	}
	f := flag.NewFlagSet("egret run", flag.ContinueOnError)
	f.Func("f", "", func(path string) error { o.Paths = append(o.Paths, path); return nil })
	f.StringVar(&o.Workload.Namespace, "n", "default", "")
	f.StringVar(&o.Workload.Name, "name", "workload", "")
	f.Func("l", "", func(list string) error {
		o.Workload.Labels = map[string]string{}
		for label := range strings.SplitSeq(list, ",") {
			key, value, _ := strings.Cut(label, "=")
			o.Workload.Labels[key] = value
		}
		return nil
	})
	f.StringVar(&o.AccessLog, "access-log", "", "")
	f.Bool("q", false, "")
	if err := f.Parse(args); err != nil {
		return 0, err
	}
	if o.Command = f.Args(); len(o.Command) == 0 {
		return 0, errors.New("no command")
	}
	return interop.Run(context.Background(), o)
}

// egretLab performs the lab in the world that it is called in, with this program as egret.
func egretLab(asJSON bool) (int, error) {
	dir, err := os.MkdirTemp("", "egret-lab-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out := io.Writer(os.Stdout)
	if asJSON {
		out = io.Discard
	}
	report, err := lab.Run(context.Background(), lab.Options{Egret: self, Dir: dir, Out: out})
	if err != nil {
		return 1, err
	}
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(report); err != nil {
			return 1, err
		}
	}
	if !report.OK {
		return 1, errors.New("the table differs from the lab's")
	}
	return 0, nil
}

// scriptName is the name of the script that env is for.
func scriptName(env *testscript.Env) string {
	return strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
}
