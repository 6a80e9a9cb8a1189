package term

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func shell(t *testing.T) (Shell, *strings.Builder) {
	t.Helper()
	var out strings.Builder
	return Shell{Dir: t.TempDir(), Env: os.Environ(), Out: &out, Timeout: 20 * time.Second}, &out
}

func TestRun(t *testing.T) {
	sh, _ := shell(t)
	for _, c := range []struct {
		name, line, output string
		exit               int
	}{
		{"output and status", "echo one; echo two >&2; exit 3", "one\ntwo\n", 3},
		{"a terminal is there", "test -t 0 && test -t 1 && echo yes", "yes\n", 0},
		{"a question is answered", "read -p 'Proceed? (y/N) ' a; echo got $a", "Proceed? (y/N) y\ngot y\n", 0},
		{"no styling", `printf '\033[1mbold\033[0m\n'`, "bold\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := sh.Run(context.Background(), c.line)
			if err != nil || r.Output != c.output || r.ExitCode != c.exit {
				t.Errorf("got %q, status %d, %v; want %q, status %d", r.Output, r.ExitCode, err, c.output, c.exit)
			}
		})
	}
}

func TestRunTimeout(t *testing.T) {
	sh, _ := shell(t)
	sh.Timeout = 200 * time.Millisecond
	if _, err := sh.Run(context.Background(), "echo before; read never"); err == nil || !strings.Contains(err.Error(), "before") {
		t.Errorf("a command that does not end: %v", err)
	}
}

// Until shows only the command that printed what was awaited.
func TestUntil(t *testing.T) {
	sh, out := shell(t)
	r, err := sh.Until(context.Background(), 20*time.Second, "echo x >> n; wc -l < n",
		func(r Result) bool { return strings.TrimSpace(r.Output) == "3" })
	if err != nil {
		t.Fatal(err)
	}
	if want := "\n$ " + r.Line + "\n3\n"; out.String() != want {
		t.Errorf("transcript %q, want %q", out.String(), want)
	}
	if _, err := sh.Until(context.Background(), 500*time.Millisecond, "echo no", func(Result) bool { return false }); err == nil {
		t.Error("what never comes is no error")
	}
}

func TestFollow(t *testing.T) {
	sh, _ := shell(t)
	f, err := sh.Follow(context.Background(), "tail -n +1 -F log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	if _, err := sh.Run(context.Background(), "echo one alpha >> log; echo two beta >> log; echo three alpha >> log"); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for len(f.Lines("alpha")) < 2 {
		select {
		case <-deadline:
			t.Fatalf("lines are %q", f.Lines(""))
		case <-again.C:
		}
	}
	if got := f.Lines("beta"); len(got) != 1 || got[0] != "two beta" {
		t.Errorf("lines of b are %q", got)
	}
}
