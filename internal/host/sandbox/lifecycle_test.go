package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// host is a program that runs its arguments in a sandbox, as egret does.
func host(args []string) int {
	s, err := Start(context.Background(), Spec{
		Path: args[0], Args: args, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err == nil {
		defer s.Relay()()
		err = s.Go()
	}
	if err != nil {
		fmt.Println(Diagnose(err))
		return 125
	}
	status, err := s.Wait()
	if err != nil {
		fmt.Println(err)
		return 125
	}
	_ = s.Close()
	return status.ShellCode()
}

// needNamespaces skips where sandboxes cannot be made.
func needNamespaces(t *testing.T) {
	t.Helper()
	run(t, probing(t, "exit", "0"))
}

func TestExitStatus(t *testing.T) {
	for _, code := range []int{0, 1, 77, 255} {
		if r := run(t, probing(t, "exit", strconv.Itoa(code))); r.status != (ExitStatus{Code: code}) || r.status.ShellCode() != code {
			t.Errorf("exit %d: %+v", code, r.status)
		}
	}
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGSEGV} {
		r := run(t, Spec{Path: "sh", Args: []string{"sh", "-c", fmt.Sprintf("kill -%d $$", s)}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"})
		if r.status.Signal != s || r.status.ShellCode() != 128+int(s) {
			t.Errorf("signal %v: %+v", s, r.status)
		}
	}
}

func TestCommandThatCannotBeStarted(t *testing.T) {
	needNamespaces(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/nowhere/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		code int
	}{{"no-such-program", 127}, {filepath.Join(dir, "none"), 127}, {plain, 126}, {dir, 126}, {script, 127}} {
		_, err := tryRun(t, Spec{Path: c.path, Args: []string{c.path}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}})
		var command *CommandError
		if !errors.As(err, &command) || command.ShellCode() != c.code || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

func TestIdentityFolderEnvironmentAndStreams(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(out, "input"); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	defer func() { _ = in.Close() }()
	spec := probing(t, "identity")
	spec.Dir, spec.Stdin, spec.Env = dir, in, []string{"VALUE=some value"}
	none := "0000000000000000"
	check(t, run(t, spec), map[string]string{
		"uid": strconv.Itoa(os.Getuid()), "gid": strconv.Itoa(os.Getgid()), "dir": dir, "value": "some value",
		"stdin": "input", "read stdin": "ok", "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
	})
}

// Larger than a socket's buffer.
func TestLargeEnvironment(t *testing.T) {
	spec := Spec{Path: "sh", Args: []string{"sh", "-c", `echo "length: ${#V9}"`}, Dir: "/"}
	for i := range 10 {
		spec.Env = append(spec.Env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 100_000)))
	}
	check(t, run(t, spec), map[string]string{"length": "100000"})
}

func TestWorkingFolderThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	spec := probing(t, "exit", "0")
	spec.Dir = dir
	_, err := tryRun(t, spec)
	var command *CommandError
	if !errors.As(err, &command) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, want an error that names %s", err, dir)
	}
}

func TestWorkingFolderBelowAHiddenOne(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(root, "hidden", "work")
	if err := errors.Join(os.MkdirAll(work, 0o755), os.WriteFile(filepath.Join(root, "hidden", "secret"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	spec := probing(t, "open", ".", filepath.Join(root, "hidden", "secret"))
	spec.Hide, spec.Dir, spec.ReadOnly = []string{filepath.Join(root, "hidden")}, work, []string{work}
	check(t, run(t, spec), map[string]string{".": "ok", filepath.Join(root, "hidden", "secret"): "ENOENT"})
}

func TestNoFilesAreInherited(t *testing.T) {
	// One that a careless parent has left open, without close-on-exec.
	fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	list := `for f in /proc/$$/fd/*; do printf "fd ${f##*/}: "; readlink $f || echo closed; done`
	r := run(t, Spec{Path: "sh", Args: []string{"sh", "-c", list}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"})
	for name, target := range lines(t, r) {
		if strings.HasPrefix(name, "fd ") && name != "fd 0" && name != "fd 1" && name != "fd 2" && target != "closed" {
			t.Errorf("%s is %s", name, target)
		}
	}
}

func TestSignalIsPassedOn(t *testing.T) {
	s, err := Start(t.Context(), Spec{
		Path: "sh", Args: []string{"sh", "-c", `trap 'exit 42' USR1; while :; do sleep 0.01; done`}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
	})
	if err != nil {
		skipWithoutNamespaces(t, err)
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Go(); err != nil {
		t.Fatal(err)
	}
	// The trap may not be set yet, and the signal's default is to end the command.
	ended := make(chan ExitStatus, 1)
	go func() {
		status, _ := s.Wait()
		ended <- status
	}()
	if err := s.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; status.Code != 42 && status.Signal != unix.SIGUSR1 {
		t.Errorf("ended with %+v", status)
	}
}

func TestCloseEndsTheCommand(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	spec := probing(t, "hang")
	spec.Stdout = in
	s, err := Start(t.Context(), spec)
	_ = in.Close()
	if err != nil {
		skipWithoutNamespaces(t, err)
		t.Fatal(err)
	}
	if err := s.Go(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Wait(); err == nil {
		t.Error("Wait returned a status of a command that was killed")
	}
	untilEOF(t, out)
}

func TestContextEndsTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, probing(t, "hang"))
	if err != nil {
		skipWithoutNamespaces(t, err)
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Go(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Wait(); err == nil {
		t.Error("Wait returned a status of a command that was killed")
	}
}

func TestCloseBeforeGo(t *testing.T) {
	s, err := Start(t.Context(), probing(t, "exit", "0"))
	if err != nil {
		skipWithoutNamespaces(t, err)
		t.Fatal(err)
	}
	_ = s.Close()
	if err := s.Go(); err == nil {
		t.Error("a closed sandbox started its command")
	}
}

// untilEOF reads until every process that has the other end open is gone.
func untilEOF(t *testing.T, f *os.File) {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, f); err != nil {
		t.Errorf("processes are left over: %v", err)
	}
}

// Nothing outlives egret, whichever of the processes is killed.
func TestNothingOutlivesEgret(t *testing.T) {
	needNamespaces(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(self(t), "host", "sh", "-c", "(trap '' HUP INT TERM; exec sleep 1000) & echo started; wait")
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	reader := bufio.NewReader(out)
	if line, err := reader.ReadString('\n'); line != "started\n" {
		t.Fatalf("the command printed %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	untilEOF(t, out)
}

func TestBackgroundProcessesEndWithTheCommand(t *testing.T) {
	r := run(t, Spec{
		Path: "sh", Args: []string{"sh", "-c", "(trap '' HUP TERM; exec sleep 1000) & echo done: ok"}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
	})
	check(t, r, map[string]string{"done": "ok"}) // run waits until the pipe is closed
}

// BenchmarkTrue is what a sandbox costs: from Start to the end of /bin/true.
func BenchmarkTrue(b *testing.B) {
	for b.Loop() {
		s, err := Start(b.Context(), Spec{Path: "/bin/true", Args: []string{"true"}, Dir: "/"})
		if err != nil {
			skipWithoutNamespaces(b, err)
			b.Fatal(err)
		}
		if err := s.Go(); err != nil {
			b.Fatal(err)
		}
		if status, err := s.Wait(); err != nil || status.ShellCode() != 0 {
			b.Fatalf("%+v, %v", status, err)
		}
		_ = s.Close()
	}
}
