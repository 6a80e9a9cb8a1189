package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// egret is the name of the proxy that this benchmark is for.
const egret = "egret"

// run measures everything and prints the result. Where the tools are missing it says
// so and measures nothing.
func run(ctx context.Context, o options, out io.Writer) error {
	tools := findTools()
	for _, name := range []string{"nginx", "wrk"} {
		if tools[name] == "" {
			fmt.Fprintf(out, "note: %s is not installed, so nothing was measured (Debian: apt-get install nginx-light haproxy wrk)\n", name)
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, o.total(4))
	defer cancel()
	dir, err := os.MkdirTemp("", "egret-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, tools: tools, dir: dir, out: out, results: results{}}
	defer b.stop()
	if b.proxyCore, b.otherCore, err = cores(); err != nil {
		return err
	}
	if b.proxyCore == b.otherCore {
		fmt.Fprintln(out, "note: one core only; proxy, origin and load share it")
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report()
	return nil
}

// bench is one run.
type bench struct {
	options
	tools                map[string]string
	dir                  string
	out                  io.Writer
	proxyCore, otherCore int
	origin               *target
	proxies              []*target
	processes            []*process
	results              results
}

// target is a server that can be measured.
type target struct {
	name    string
	address string
	process *process
}

func (b *bench) stop() {
	for _, p := range slices.Backward(b.processes) {
		p.stop()
	}
}

// start starts the origin and every proxy that there is.
func (b *bench) start(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	conf, err := b.write("origin.conf", originConfig(b.dir, port))
	if err != nil {
		return err
	}
	b.origin, err = b.server(ctx, "origin", port, b.otherCore, b.tools["nginx"], nginxArgs(b.dir, conf)...)
	if err != nil {
		return err
	}
	for _, start := range []func(context.Context, int) (*target, error){b.startNginx, b.startHAProxy, b.startEgret} {
		t, err := start(ctx, port)
		var missing missingError
		switch {
		case errors.As(err, &missing):
			fmt.Fprintf(b.out, "note: %v\n", missing)
		case err != nil:
			return err
		default:
			b.proxies = append(b.proxies, t)
		}
	}
	return nil
}

// missingError says that a peer is not installed.
type missingError struct{ name string }

func (e missingError) Error() string { return e.name + " is not installed, so it is left out" }

func (b *bench) startNginx(ctx context.Context, origin int) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf, err := b.write("nginx.conf", nginxConfig(b.dir, port, origin))
	if err != nil {
		return nil, err
	}
	return b.server(ctx, "nginx", port, b.proxyCore, b.tools["nginx"], nginxArgs(b.dir, conf)...)
}

func (b *bench) startHAProxy(ctx context.Context, origin int) (*target, error) {
	if b.tools["haproxy"] == "" {
		return nil, missingError{"haproxy"}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf, err := b.write("haproxy.cfg", haproxyConfig(port, origin))
	if err != nil {
		return nil, err
	}
	return b.server(ctx, "haproxy", port, b.proxyCore, b.tools["haproxy"], "-db", "-f", conf)
}

func (b *bench) startEgret(ctx context.Context, origin int) (*target, error) {
	binary := filepath.Join(b.dir, "egret-bench-proxy")
	if err := build(ctx, binary); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return b.server(ctx, egret, port, b.proxyCore, binary,
		"-origin", address(origin), "-listen", address(port),
		"-entries", fmt.Sprint(b.entries), "-access-log", filepath.Join(b.dir, "access.log"))
}

// server starts a process and waits until it answers with 200.
func (b *bench) server(ctx context.Context, name string, port, core int, command string, args ...string) (*target, error) {
	p, err := startProcess(ctx, b.pinned(core, command, args...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b.processes = append(b.processes, p)
	t := &target{name: name, address: address(port), process: p}
	if err := t.ready(ctx); err != nil {
		return nil, fmt.Errorf("%s does not answer: %w\n%s", name, err, p.output())
	}
	return t, nil
}

// pinned is the command on one core.
func (b *bench) pinned(core int, command string, args ...string) []string {
	if b.tools["taskset"] == "" {
		return append([]string{command}, args...)
	}
	return append([]string{b.tools["taskset"], "-c", fmt.Sprint(core), command}, args...)
}

func (b *bench) write(name, content string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// measure takes turns: in each round every server is measured once with each number
// of connections, the origin itself too.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.rounds {
		for _, n := range b.connections {
			for _, t := range append([]*target{b.origin}, b.proxies...) {
				if err := b.one(ctx, t, n); err != nil {
					return fmt.Errorf("round %d, %s with %d connections: %w", round+1, t.name, n, err)
				}
			}
		}
		fmt.Fprintf(b.out, "round %d of %d done\n", round+1, b.rounds)
	}
	return nil
}

func (b *bench) one(ctx context.Context, t *target, connections int) error {
	if b.warmup > 0 {
		if _, err := b.load(ctx, t, connections, b.warmup); err != nil {
			return err
		}
	}
	before, err := cpuTime(t.process.pid())
	if err != nil {
		return err
	}
	l, err := b.load(ctx, t, connections, b.duration)
	if err != nil {
		return err
	}
	after, err := cpuTime(t.process.pid())
	if err != nil {
		return err
	}
	b.results.add(t.name, connections, sample{
		perRequest: (after - before) / time.Duration(l.requests),
		perSecond:  float64(l.requests) / l.elapsed.Seconds(),
	})
	return nil
}
