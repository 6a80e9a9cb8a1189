package world

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/lab/internet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == KeeperArg {
		code, err := Keep(os.Args[2:], internet.Default())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// keeper runs a shell script in a world and returns what it printed.
func inWorld(t *testing.T, script string) (string, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Run inherits standard output, so the test binary is started once more to
	// give it one that can be read.
	cmd := exec.Command(self, "-test.run=^TestHelperRun$", "-test.v=false")
	cmd.Env = append(os.Environ(), "WORLD_TEST_SCRIPT="+script)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "operation not permitted") {
		t.Skip("unprivileged user namespaces are off")
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestHelperRun is the process that inWorld starts; by itself it does nothing.
func TestHelperRun(t *testing.T) {
	script := os.Getenv("WORLD_TEST_SCRIPT")
	if script == "" {
		t.Skip("only as a helper of the other tests")
	}
	code, err := Run([]string{"sh", "-c", script})
	if err != nil {
		fmt.Println(err)
		code = 99
	}
	os.Exit(code)
}

func TestWorldIsTheWholeNetwork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	out, code := inWorld(t, `
		curl -sS --head -L http://www.wikipedia.org || exit 1
		curl -sS http://no.such.example && exit 1
		cat "$EGRET_WORLD_DIR/dns-queries.log"
		exit 7`)
	if code != 7 {
		t.Fatalf("exit status %d, want 7:\n%s", code, out)
	}
	for _, want := range []string{"HTTP/1.1 301", "200", "Could not resolve host: no.such.example", "www.wikipedia.org\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
}

func TestProgramHasNoCapabilities(t *testing.T) {
	out, code := inWorld(t, `grep CapEff /proc/self/status; id -u`)
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	if os.Getuid() != 0 && !strings.Contains(out, "CapEff:\t0000000000000000") {
		t.Errorf("the program has capabilities:\n%s", out)
	}
	if want := fmt.Sprint(os.Getuid()); !strings.HasSuffix(strings.TrimSpace(out), want) {
		t.Errorf("the user changed, want %s:\n%s", want, out)
	}
}
