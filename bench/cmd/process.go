package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// findTools finds the programs; "" is not there. Servers are often not on an ordinary
// user's PATH.
func findTools() map[string]string {
	tools := map[string]string{}
	for _, name := range []string{"nginx", "haproxy", "wrk", "taskset"} {
		for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
			if found, err := exec.LookPath(path); err == nil {
				tools[name] = found
				break
			}
		}
	}
	return tools
}

// cores are the first two processors that this process may use.
func cores() (first, second int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("which processors may be used: %w", err)
	}
	var usable []int
	for i := 0; i < len(set)*64 && len(usable) < 2; i++ {
		if set.IsSet(i) {
			usable = append(usable, i)
		}
	}
	if len(usable) == 1 {
		usable = append(usable, usable[0])
	}
	return usable[0], usable[1], nil
}

// process is a server that runs until it is stopped.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	text   bytes.Buffer // what it printed, the beginning
	waited chan error
}

func startProcess(ctx context.Context, args []string) (*process, error) {
	p := &process{waited: make(chan error, 1)}
	p.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // if we are killed
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.waited <- p.cmd.Wait() }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// Write keeps the beginning of the output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b[:min(len(b), max(0, 16<<10-p.text.Len()))])
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimSpace(p.text.String())
}

// stop ends the process, by force when it does not go.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.waited:
		return
	case <-time.After(5 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	<-p.waited
}

// ready waits until the server answers with 200.
func (t *target) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	err := t.ask(ctx)
	for err != nil {
		select {
		case <-ctx.Done():
			return err
		case end := <-t.process.waited:
			t.process.waited <- end
			return fmt.Errorf("it ended: %v", end)
		case <-tick.C:
		}
		err = t.ask(ctx)
	}
	return nil
}

func (t *target) ask(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+t.address+"/", nil)
	if err != nil {
		return err
	}
	r.Host, r.Close = originHost, true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// build builds the process under test.
func build(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "github.com/egret-mesh/egret/bench/proxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// freePort is a port of loopback that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// cpuTime is user and system time of all threads of a process, living and dead.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// userHZ is the unit of times in /proc: Linux has 100 for every architecture that Go
// runs on.
const userHZ = 100

// parseStat reads utime and stime, fields 14 and 15 of /proc/PID/stat (proc(5)).
// The second field is a name in parentheses that may have spaces and parentheses.
func parseStat(stat string) (time.Duration, error) {
	i := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("%q is not the stat of a process", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not the stat of a process: %w", stat, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}
