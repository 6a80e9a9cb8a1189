package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egret-mesh/egret/internal/interop"
	"github.com/egret-mesh/egret/internal/lab/internet"
	"github.com/egret-mesh/egret/internal/lab/world"
)

// binaryEnv names the egret program to test; empty: it is built.
const binaryEnv = "EGRET_BINARY"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == world.KeeperArg {
		exit(world.Keep(os.Args[2:], internet.Default()))
	}
	base := filepath.Base(os.Args[0])
	if os.Getenv(world.DirEnv) == "" && !slices.Contains([]string{"probe", "origin", "stream", "egret"}, base) {
		exit(enterWorld())
	}
	testscript.Main(m, map[string]func(){"probe": probe, "origin": origin, "stream": stream, "egret": egret})
}

func exit(code int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// enterWorld runs this test program once more, in a world.
func enterWorld() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if os.Getenv(binaryEnv) == "" {
		dir, err := os.MkdirTemp("", "egret-scenario-")
		if err != nil {
			return 1, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0o755); err != nil {
			return 1, err
		}
		// As in "make build", so that most of it has been compiled.
		build := exec.Command("go", "build", "-trimpath", "-tags", "leakcheck", "-o", dir, "github.com/egret-mesh/egret/cmd/egret")
		if os.Getenv(envoyEnv) != "" {
			build.Args = append(build.Args, "github.com/egret-mesh/egret/cmd/egret-proxy", "github.com/egret-mesh/egret/cmd/egretd")
		}
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return 1, fmt.Errorf("build egret: %w", err)
		}
		binary := filepath.Join(dir, "egret")
		if err := os.Setenv(binaryEnv, binary); err != nil {
			return 1, err
		}
	}
	run := world.Run
	if os.Getenv(envoyEnv) != "" {
		run = world.RunAsAdministrator // to make a network for each command
	}
	code, err := run(append([]string{self}, os.Args[1:]...))
	if errors.Is(err, os.ErrPermission) {
		fmt.Println("SKIP: unprivileged user namespaces are switched off on this machine, so no scenario was run")
		return 0, nil
	}
	return code, err
}

func TestScenarios(t *testing.T) {
	p := parameters(interop.Cell{Sidecar: interop.Egret, Gateway: interop.Egret}, "standalone")
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("PATH", filepath.Dir(os.Getenv(binaryEnv))+string(os.PathListSeparator)+env.Getenv("PATH"))
		env.Setenv("CELL", "standalone")
		return setUpWorld(env)
	}
	testscript.Run(t, p)
}

// parameters are those of all scripts. Conditions of theirs are: "standalone" and
// "interop" for the two ways of running them, "egret-sidecar" and "egret-gateway" for what
// only Egret's proxy does (docs/interop.md).
func parameters(cell interop.Cell, conditions ...string) testscript.Params {
	if cell.Sidecar == interop.Egret {
		conditions = append(conditions, "egret-sidecar")
	}
	if cell.Gateway == interop.Egret {
		conditions = append(conditions, "egret-gateway")
	}
	return testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitfor": waitFor, "count": count, "certify": certify},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "exists:examples":
				_, err := os.Stat("../../examples")
				return err == nil, nil
			case "standalone", "interop", "egret-sidecar", "egret-gateway":
				return slices.Contains(conditions, cond), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	}
}

func setUpWorld(env *testscript.Env) error {
	for _, name := range []string{world.DirEnv, "SSL_CERT_FILE", "CURL_CA_BUNDLE"} {
		env.Setenv(name, os.Getenv(name))
	}
	if examples, err := filepath.Abs("../../examples"); err == nil {
		env.Setenv("EXAMPLES", examples)
	}
	env.Setenv("UID", fmt.Sprint(os.Getuid()))
	return nil
}

// waitLimit is how long a scenario waits for a condition: far more than it should
// take, as machines may be slow; no test measures time.
const waitLimit = 20 * time.Second

// waitFor runs a command until it succeeds: "waitfor grep pattern file" for a
// regular expression in a file, "waitfor exec command args", "waitfor ! exec ...".
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor [not] exec|lines ...")
	}
	want := true
	if args[0] == "not" {
		want, args = false, args[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last string
	for {
		ok, out := tryOnce(ctx, ts, args)
		if ok == want {
			return
		}
		last = out
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("waited %v in vain for %v; last output:\n%s", waitLimit, args, last)
		}
	}
}

func tryOnce(ctx context.Context, ts *testscript.TestScript, args []string) (bool, string) {
	switch args[0] {
	case "exec":
		cmd := exec.CommandContext(ctx, args[1], args[2:]...)
		if path, err := lookPath(ts, args[1]); err == nil {
			cmd.Path, cmd.Err = path, nil
		}
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return err == nil, string(out)
	case "text": // waitfor text FILE SUBSTRING
		data, _ := os.ReadFile(ts.MkAbs(args[1])) // not written yet: no text
		return strings.Contains(string(data), args[2]), string(data)
	}
	ts.Fatalf("waitfor: unknown condition %q", args[0])
	return false, ""
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// count checks how many lines of a file have a text: "count N TEXT FILE".
func count(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count N TEXT FILE")
	}
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[2])) {
		if strings.Contains(line, args[1]) {
			n++
		}
	}
	if fmt.Sprint(n) != args[0] {
		ts.Fatalf("%d lines with %q, want %s, in:\n%s", n, args[1], args[0], ts.ReadFile(args[2]))
	}
}
