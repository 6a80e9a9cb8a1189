package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adminAddress is where a proxy's admin interface is in its namespace, as in Istio.
const adminAddress = "127.0.0.1:15000"

// process is a proxy at work.
type process struct {
	name   string
	ns     *namespace
	cmd    *exec.Cmd
	stderr string // file with what it said
	ended  chan struct{}
	err    error // how it ended, when ended is closed
}

// startProcess starts a program in a namespace. It dies with this process.
func startProcess(name string, ns *namespace, stderr string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, ns: ns, cmd: cmd, stderr: stderr, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The thread must live as long as the process: the parent-death signal is its.
		defer close(p.ended)
		p.err = ns.do(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// ready waits until the proxy says that it serves.
func (p *process) ready(ctx context.Context) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		err = p.ns.do(func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", adminAddress)
			return err
		})
		return conn, err
	}}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := client.Get("http://" + adminAddress + "/ready"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.said())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, ctx.Err(), p.said())
		}
	}
}

// said is what the proxy wrote on stderr.
func (p *process) said() string {
	text, err := os.ReadFile(p.stderr)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stop ends the proxy when nobody has a connection to it any more, or after a while.
func (p *process) stop() error {
	p.quiet()
	_ = p.cmd.Process.Signal(unix.SIGTERM) // it may have ended
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %v", p.name, endLimit)
	}
	if p.err != nil && p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM {
		return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.said())
	}
	return nil
}

// quiet waits until nobody is connected to the proxy: then it has recorded all ends.
func (p *process) quiet() {
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.connected() {
		select {
		case <-tick.C:
		case <-p.ended:
			return
		case <-limit.C:
			return
		}
	}
}

// connected says whether somebody from another namespace has a connection to the proxy.
func (p *process) connected() bool {
	for _, table := range []string{"tcp", "tcp6"} {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, table))
		if accepted(string(text)) {
			return true
		}
	}
	return false
}

// accepted reads a table of /proc/net/tcp (proc(5)) and says whether there is a
// connection that is not over (ESTABLISHED or CLOSE_WAIT) at a port where somebody listens,
// other than from loopback.
func accepted(table string) bool {
	const established, closeWait, listening = "01", "08", "0A"
	ports := map[string]bool{}
	lines := strings.Split(table, "\n")
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 3 && f[3] == listening {
			ports[port(f[1])] = true
		}
	}
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != established && f[3] != closeWait || strings.HasPrefix(f[2], "0100007F:") {
			continue
		}
		if ports[port(f[1])] {
			return true
		}
	}
	return false
}

// runCommand runs the workload. It has none of this process's capabilities.
func runCommand(ns *namespace, argv []string) (int, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 127, err
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	err = ns.do(func() error {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return err
		}
		return cmd.Run()
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
	return 0, err
}
