// Command scale measures egret run with a large registry: how long the start takes,
// how much memory stays, and how long an edit of a file takes to reach the running
// command, while other traffic flows. It needs no network: what is called is a server
// of its own on loopback.
//
// It must not judge: it prints what it measured.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	egret          string
	entries, files int
	edits          int
	settle         time.Duration
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == probeWord {
		probe(os.Stdin, os.Stdout)
		return
	}
	var o options
	flag.StringVar(&o.egret, "egret", "bin/egret", "the program that is measured")
	flag.IntVar(&o.entries, "entries", 10_000, "ServiceEntries, each with the ports 80 HTTP and 443 HTTPS")
	flag.IntVar(&o.files, "files", 100, "files that they are in")
	flag.IntVar(&o.edits, "edits", 20, "how often a host is allowed and denied again")
	flag.DurationVar(&o.settle, "settle", 10*time.Second, "idle time before memory is read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	defer server.Close()
	dir, err := os.MkdirTemp("", "egret-scale-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p := policy{folder: filepath.Join(dir, "policy"), port: server.Listener.Addr().String(), options: o}
	if err := p.write(); err != nil {
		return err
	}
	c, err := start(ctx, o.egret, p.folder)
	if err != nil {
		return err
	}
	defer c.stop()
	begun := time.Now()
	if _, err := c.until("denied"); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d ServiceEntries in %d files\n", o.entries, o.files)
	fmt.Fprintf(out, "start to first request: %v\n", time.Since(begun).Round(time.Millisecond))
	if err := idle(ctx, c, o.settle, out); err != nil {
		return err
	}
	if o.edits == 0 {
		return nil
	}
	if err := liveness(c, p, out); err != nil {
		return err
	}
	return idle(ctx, c, o.settle, out)
}

// idle waits, and tells the memory that is used then.
func idle(ctx context.Context, c *child, settle time.Duration, out io.Writer) error {
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := fmt.Fprintf(out, "memory after %v idle:\n%s", settle, memory(c.cmd.Process.Pid))
	return err
}

// liveness edits one file again and again, and tells how long each took to matter.
func liveness(c *child, p policy, out io.Writer) error {
	if err := c.steady(true); err != nil {
		return err
	}
	times := map[string][]time.Duration{}
	before := cpu(c.cmd.Process.Pid)
	for i := range 2 * p.edits {
		allow := i%2 == 0
		word := "denied"
		if allow {
			word = "allowed"
		}
		written := time.Now()
		if err := p.edit(allow); err != nil {
			return err
		}
		at, err := c.until(word)
		if err != nil {
			return err
		}
		times[word] = append(times[word], at.Sub(written))
	}
	fmt.Fprintf(out, "CPU time per edit, with the probe's traffic: %v\n", ((cpu(c.cmd.Process.Pid) - before) / time.Duration(2*p.edits)).Round(time.Millisecond))
	if err := c.steady(false); err != nil {
		return err
	}
	for _, word := range []string{"allowed", "denied"} {
		tell(out, "edit to first "+word+" request", times[word])
	}
	slowest, err := c.line("slowest ")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "slowest request of the traffic meanwhile: %s\n", slowest)
	return nil
}

func tell(out io.Writer, what string, d []time.Duration) {
	slices.Sort(d)
	fmt.Fprintf(out, "%s: median %v, slowest %v of %d\n", what,
		d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond), len(d))
}

// child is egret with the probe in it.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func start(ctx context.Context, egret, folder string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, egret, "run", "-q", "-f", folder, "--", self, probeWord)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	return c, c.cmd.Start()
}

func (c *child) stop() {
	_ = c.in.Close() // which ends the probe
	_ = c.cmd.Wait()
}

// steady switches the traffic to another host on or off.
func (c *child) steady(on bool) error {
	word := "quiet\n"
	if on {
		word = "traffic\n"
	}
	_, err := io.WriteString(c.in, word)
	return err
}

// line waits for a line that begins with prefix, and gives the rest.
func (c *child) line(prefix string) (string, error) {
	for c.lines.Scan() {
		if rest, ok := strings.CutPrefix(c.lines.Text(), prefix); ok {
			return rest, nil
		}
	}
	return "", fmt.Errorf("the probe ended before it said %q (%v)", prefix, c.lines.Err())
}

// until waits until the probe has seen a request end so, and says when that one began.
func (c *child) until(word string) (time.Time, error) {
	rest, err := c.line(word + " ")
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	return time.Unix(0, n), err
}
