// Package term types commands into a shell on a terminal, as a user does, and shows
// what they print.
//
// It must not know what the commands are about.
package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// Shell types commands; the zero value of Timeout is six minutes for each.
type Shell struct {
	// Dir is the working folder, Env the environment.
	Dir string
	Env []string
	// Out gets the transcript.
	Out     io.Writer
	Timeout time.Duration
}

// Result is what came of one command.
type Result struct {
	Line, Output string
	ExitCode     int
}

// styling is what programs add for a terminal (ECMA-48 control sequences and operating
// system commands).
var styling = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)`)

// question is one that a program asks before it changes a cluster.
const question = "(y/N)"

// Run types a line and waits for its end. A question is answered with y. It prints
// nothing.
func (s Shell) Run(ctx context.Context, line string) (Result, error) {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 6 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%q did not end within %s", line, timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = s.Dir, append(s.Env, "PWD="+s.Dir, "TERM=dumb")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
	if err != nil {
		return Result{Line: line}, err
	}
	defer terminal.Close()
	var out bytes.Buffer
	if err := converse(terminal, &out); err != nil {
		return Result{Line: line}, err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Result{Line: line}, err
	}
	if ctx.Err() != nil {
		return Result{Line: line, Output: clean(out.String())}, fmt.Errorf("%w:\n%s", context.Cause(ctx), clean(out.String()))
	}
	return Result{line, clean(out.String()), cmd.ProcessState.ExitCode()}, nil
}

// converse reads until the last process on the terminal is gone (EIO).
func converse(terminal io.ReadWriter, out *bytes.Buffer) error {
	answered := 0
	buf := make([]byte, 4096)
	for {
		n, err := terminal.Read(buf)
		out.Write(buf[:n])
		if asked := strings.Count(out.String(), question); asked > answered {
			answered = asked
			if _, err := io.WriteString(terminal, "y\n"); err != nil {
				return err
			}
		}
		if errors.Is(err, syscall.EIO) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func clean(text string) string {
	return strings.ReplaceAll(styling.ReplaceAllString(text, ""), "\r\n", "\n")
}

// Show prints a command and what came of it.
func (s Shell) Show(r Result) {
	fmt.Fprintf(s.Out, "\n$ %s\n%s", r.Line, r.Output)
	if r.ExitCode != 0 {
		fmt.Fprintf(s.Out, "(exit status %d)\n", r.ExitCode)
	}
}

// Until types a line again and again until ok is true of what comes, at most timeout,
// then shows the last.
func (s Shell) Until(ctx context.Context, timeout time.Duration, line string, ok func(Result) bool) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	var last Result
	for {
		r, err := s.Run(ctx, line)
		if err == nil {
			last = r
			if ok(r) {
				s.Show(r)
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			s.Show(last)
			return last, fmt.Errorf("%q did not give what was expected within %s", line, timeout)
		case <-again.C:
		}
	}
}

// Follow is a command that goes on, such as kubectl logs -f.
type Follow struct {
	mu   sync.Mutex
	text bytes.Buffer
	stop func()
	done chan struct{}
}

// Follow starts a line and shows that; Stop ends it.
func (s Shell) Follow(ctx context.Context, line string) (*Follow, error) {
	fmt.Fprintf(s.Out, "\n$ %s &\n", line)
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+line)
	cmd.Dir, cmd.Env = s.Dir, append(s.Env, "PWD="+s.Dir)
	f := &Follow{done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f.stop = func() { _ = cmd.Process.Kill() }
	go func() {
		defer close(f.done)
		_ = cmd.Wait()
	}()
	return f, nil
}

// Write adds to what the command printed.
func (f *Follow) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(p)
}

// Lines are what it printed so far, and has in them what is asked for.
func (f *Follow) Lines(with string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for line := range strings.Lines(f.text.String()) {
		if strings.Contains(line, with) {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// Stop ends the command and waits for its end.
func (f *Follow) Stop() {
	f.stop()
	<-f.done
}
