package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a program on a terminal of its own.
type pty struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	seen   bytes.Buffer
}

func startPTY(t *testing.T, args ...string) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	if err := unix.SetNonblock(int(master.Fd()), true); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	defer func() { _ = slave.Close() }()
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), append([]string{"host"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = []string{"PATH=/usr/bin:/bin", "PS1=prompt> ", "TERM=dumb", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	// A test that runs in the background may have inherited that SIGINT is ignored, and would
	// pass that on; what is handled here has its default there.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	err = cmd.Start()
	signal.Stop(interrupts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &pty{t: t, master: os.NewFile(uintptr(dup(t, master)), "pty"), cmd: cmd}
}

// dup gives the terminal's file anew, so that the runtime polls it.
func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func (p *pty) send(text string) {
	p.t.Helper()
	if _, err := p.master.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// expect reads until text comes, and forgets what was before it.
func (p *pty) expect(text string) string {
	p.t.Helper()
	if err := p.master.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if before, after, ok := bytes.Cut(p.seen.Bytes(), []byte(text)); ok {
			seen := string(before) + text
			rest := bytes.Clone(after)
			p.seen.Reset()
			p.seen.Write(rest)
			return seen
		}
		n, err := p.master.Read(buf)
		p.seen.Write(buf[:n])
		if err != nil {
			p.t.Fatalf("waiting for %q: %v; the terminal has:\n%s", text, err, p.seen.String())
		}
	}
}

func TestShellHasJobControl(t *testing.T) {
	needNamespaces(t)
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("this machine has no bash")
	}
	p := startPTY(t, bash, "--norc", "--noprofile", "-i")
	defer func() { _ = p.master.Close() }()
	if begin := p.expect("prompt> "); strings.Contains(begin, "no job control") {
		t.Errorf("the shell said: %s", begin)
	}
	p.send("stty size; tty\n")
	p.expect("33 77")
	p.expect("/dev/console")
	p.expect("prompt> ")
	// The job prints when it is in the foreground.
	p.send(self(t) + " probe job\n")
	p.expect("job: started")
	p.send("\x1a") // Ctrl-Z
	p.expect("Stopped")
	p.expect("prompt> ")
	p.send("fg\n")
	p.expect("job: continued")
	p.send("\x03") // Ctrl-C
	p.expect("prompt> ")
	p.send("exit 7\n")
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("the shell ended with %v", err)
	}
}

// Ctrl-C reaches the command, once, and the command decides.
func TestCtrlCReachesTheCommandOnce(t *testing.T) {
	needNamespaces(t)
	p := startPTY(t, "sh", "-c", `n=0; trap 'n=$((n+1)); echo caught $n' INT; echo ready; while [ $n -lt 1 ]; do sleep 0.01; done; sleep 0.3; echo total $n; exit 9`)
	defer func() { _ = p.master.Close() }()
	p.expect("ready")
	p.send("\x03")
	p.expect("total 1")
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("ended with %v", err)
	}
}

func TestSignalSentByKillIsRelayed(t *testing.T) {
	needNamespaces(t)
	p := startPTY(t, "sh", "-c", `trap 'echo terminated; exit 5' TERM; echo ready; while :; do sleep 0.01; done`)
	defer func() { _ = p.master.Close() }()
	p.expect("ready")
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.expect("terminated")
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("ended with %v", err)
	}
}

func TestTerminalInjectionIsRefused(t *testing.T) {
	needNamespaces(t)
	p := startPTY(t, self(t), "probe", "inject", "probe")
	defer func() { _ = p.master.Close() }()
	p.expect("TIOCSTI: EPERM")
	p.expect("TIOCLINUX: EPERM")
	p.expect("tty: ok")
}

// On a terminal the command is in the process group of the shell's job, and can
// suspend it, not signal or slow it.
func TestProcessGroupOnATerminal(t *testing.T) {
	needNamespaces(t)
	p := startPTY(t, self(t), "probe", "group")
	defer func() { _ = p.master.Close() }()
	p.expect("nice: EPERM")
	p.expect("user signal: EPERM")
	p.expect("kill: EPERM")
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
