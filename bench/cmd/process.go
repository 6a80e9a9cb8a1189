package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server that runs until it is stopped.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	text   bytes.Buffer // what it printed, the beginning
	waited chan error
}

// startProcess starts a command. Its standard output goes to out; nil: what it prints is
// kept, as its errors are.
func startProcess(ctx context.Context, args []string, in io.Reader, out io.Writer) (*process, error) {
	p := &process{waited: make(chan error, 1)}
	p.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, p
	if out == nil {
		p.cmd.Stdout = p
	}
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

// ended tells that the process is gone, and why.
func (p *process) ended() (error, bool) {
	select {
	case err := <-p.waited:
		p.waited <- err
		return fmt.Errorf("it ended: %v\n%s", err, p.output()), true
	default:
		return nil, false
	}
}

// startPatience bounds how long a server may take until it answers.
const startPatience = 3 * time.Minute

// until waits until ask is content with the process.
func (p *process) until(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if end, gone := p.ended(); gone {
			return end
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w\n%s", err, p.output())
		case <-tick.C:
		}
	}
}

// stop ends the process, by force when it does not go.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case err := <-p.waited:
		p.waited <- err
		return
	case <-time.After(5 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	p.waited <- <-p.waited
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

// stayOn moves all threads of this process to one processor. Threads that begin later
// inherit that.
func stayOn(core int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(core)
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}
