package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egret-mesh/egret/bench/control"
)

// rig is what all cases of a run share.
type rig struct {
	options
	out                  io.Writer
	tools                map[string]string // by name; a program that is missing is not there
	binaries             string            // folder of bench/proxy and bench/load, built
	proxyCore, otherCore int
}

// session is what one case has started.
type session struct {
	*rig
	name      string
	dir       string
	processes []*process
	planes    []*control.Plane
	logs      []string
	notes     map[string]bool
}

func newSession(r *rig, name string) (*session, error) {
	dir, err := os.MkdirTemp("", "egret-bench-")
	if err != nil {
		return nil, err
	}
	return &session{rig: r, name: name, dir: dir, notes: map[string]bool{}}, nil
}

// close stops what was started, the last first, and removes its files.
func (s *session) close() {
	for _, p := range slices.Backward(s.processes) {
		p.stop()
	}
	for _, p := range s.planes {
		p.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// note says something once.
func (s *session) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !s.notes[text] {
		s.notes[text] = true
		fmt.Fprintf(s.out, "note: %s: %s\n", s.name, text)
	}
}

// pinned is a command on one core.
func pinned(core int, args ...string) []string {
	return append([]string{"taskset", "-c", strconv.Itoa(core)}, args...)
}

func (s *session) write(name, content string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// logFile is a file for an access log. It is emptied before each measurement.
func (s *session) logFile(name string) string {
	path := filepath.Join(s.dir, name+".log")
	s.logs = append(s.logs, path)
	return path
}

func (s *session) emptyLogs() error {
	for _, path := range s.logs {
		if err := os.Truncate(path, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// server starts a process on a core and waits until ask is content; nil: it does not.
func (s *session) server(ctx context.Context, name string, core int, out io.Writer, ask func(context.Context) error, args ...string) (*process, error) {
	p, err := startProcess(ctx, pinned(core, args...), nil, out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.processes = append(s.processes, p)
	if ask == nil {
		return p, nil
	}
	if err := p.until(ctx, ask); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// asks200 asks for "/" over HTTP/1.1.
func asks200(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
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
			return fmt.Errorf("status %s %s", resp.Status, resp.Header.Get("x-egret-reason"))
		}
		return nil
	}
}

// accepts only connects.
func accepts(addresses ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, a := range addresses {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a)
			if err != nil {
				return err
			}
			_ = conn.Close()
		}
		return nil
	}
}

// loadGrace is how much longer than its duration one load may take.
const loadGrace = 30 * time.Second

// load runs a load generator on the other core and returns what it printed.
func (s *session) load(ctx context.Context, d time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d+loadGrace)
	defer cancel()
	args = pinned(s.otherCore, args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args[3:], " "), err, out)
	}
	return string(out), nil
}

// own runs bench/load and reads its JSON into result.
func (s *session) own(ctx context.Context, d time.Duration, result any, args ...string) error {
	out, err := s.load(ctx, d, append([]string{filepath.Join(s.binaries, "load")}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), result); err != nil {
		return fmt.Errorf("%s: %w in %q", args[0], err, out)
	}
	return nil
}

// cpu is the CPU time of all processes of a target.
func (t *target) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range t.processes {
		d, err := cpuTime(p.pid())
		if err != nil {
			return 0, fmt.Errorf("%s: %w", t.name, err)
		}
		sum += d
	}
	return sum, nil
}

// memory is that of all processes of a target.
func (t *target) memory() (memory, error) {
	var sum memory
	for _, p := range t.processes {
		m, err := memoryOf(p.pid())
		if err != nil {
			return memory{}, fmt.Errorf("%s: %w", t.name, err)
		}
		sum.rss += m.rss
		sum.pss += m.pss
	}
	return sum, nil
}

// spent is the CPU time that a target uses while f runs.
func (t *target) spent(f func() error) (time.Duration, error) {
	before, err := t.cpu()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := t.cpu()
	return after - before, err
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

// freePorts are n different ones.
func freePorts(n int) (out []int, err error) {
	for len(out) < n {
		p, err := freePort()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
