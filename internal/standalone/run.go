package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/host/sandbox"
	"github.com/egret-mesh/egret/internal/memory"
)

// Options of Run.
type Options struct {
	Command []string
	// Env and Dir are the command's; Home is the user's home folder.
	Env       []string
	Dir, Home string
	Paths     []string // of YAML
	Workload  Workload
	// AccessLog is the folder of the access logs; "": none are written.
	AccessLog string
	// Expose are paths of the machine that the command may see although they would be
	// hidden (sockets and their folders).
	Expose []string
	// Metrics is the loopback address where the metrics are served; "": they are not.
	Metrics string
	Quiet   bool // no denials on Stderr
	Logger  *slog.Logger
	// Memory is the process's; nil: nobody keeps it.
	Memory *memory.Keeper

	Stdin, Stdout, Stderr *os.File
}

// ProblemsError is YAML that cannot be used; nothing was started.
type ProblemsError struct{ Problems []istioapi.Problem }

func (e *ProblemsError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// readyLimit bounds the wait for the first configuration.
const readyLimit = 30 * time.Second

// Run runs the command in the mesh until it ends, and says how it ended. The error is
// about egret itself; then the command was not started, or was killed.
func Run(ctx context.Context, o Options) (sandbox.ExitStatus, error) {
	var metrics net.Listener
	if o.Metrics != "" {
		var err error
		if metrics, err = listenMetrics(o.Metrics); err != nil {
			return sandbox.ExitStatus{}, err
		}
		defer func() { _ = metrics.Close() }()
	}
	var guard guard
	files, err := source.Files(o.Paths, source.Options{Logger: o.Logger, Trusted: guard.trusted})
	if err != nil {
		return sandbox.ExitStatus{}, err
	}
	defer func() { _ = files.Close() }()
	if bad := onlyErrors(files.Current().Problems); len(bad) > 0 {
		return sandbox.ExitStatus{}, &ProblemsError{bad}
	}
	if err := refuseHardLinks(files); err != nil {
		return sandbox.ExitStatus{}, err
	}
	readOnly := guard.protect(files.Protect(), o.Dir, o.Home)
	if o.AccessLog != "" {
		if err := os.MkdirAll(o.AccessLog, 0o755); err != nil {
			return sandbox.ExitStatus{}, fmt.Errorf("access log: %w", err)
		}
		readOnly = append(readOnly, o.AccessLog) // nor may it rewrite the record
	}
	start := sync.OnceValues(func() (*sandbox.Sandbox, error) {
		return sandbox.Start(ctx, sandbox.Spec{
			Path: o.Command[0], Args: o.Command, Env: o.Env, Dir: o.Dir, Home: o.Home,
			ReadOnly: readOnly,
			Expose:   o.Expose,
			Stdin:    o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
			Logger: o.Logger.With("part", "sandbox"),
		})
	})
	go start() // while the mesh is made
	defer func() {
		if jail, err := start(); err == nil {
			_ = jail.Close()
		}
	}()
	voice := newVoice(o.Stderr, o.Quiet)
	defer voice.close()
	m, err := newRunning(meshOptions{
		files: files, workload: o.Workload, logFolder: o.AccessLog,
		logger: o.Logger, tell: voice.problems, refused: voice.refused, lost: voice.lost, metrics: metrics,
		memory: o.Memory,
	})
	if err != nil {
		return sandbox.ExitStatus{}, err
	}
	if metrics != nil && strings.HasSuffix(o.Metrics, ":0") {
		voice.say("metrics", "metrics: http://"+metrics.Addr().String()+metricsPath)
	}
	return m.runCommand(ctx, voice, start)
}

// runCommand serves, lets the command go when all is ready, and waits for its end.
func (r *running) runCommand(ctx context.Context, voice *voice, start func() (*sandbox.Sandbox, error)) (sandbox.ExitStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts errgroup.Group
	part := func(run func(context.Context) error) {
		parts.Go(func() error {
			defer cancel() // a mesh that fails takes the command along
			return run(ctx)
		})
	}
	part(r.configure)
	if r.memory != nil {
		part(r.keepMemory)
	}
	told := voice.follow(r.sidecar.Recorder(), r.gateway.Recorder())
	var status sandbox.ExitStatus
	jail, err := start()
	if err == nil {
		part(func(ctx context.Context) error { return r.serve(ctx, jail) })
		status, err = r.command(ctx, jail)
	}
	cancel()
	err = errors.Join(err, parts.Wait(), r.close())
	told.Wait()
	return status, err
}

// keepMemory follows the sidecar's configuration until ctx ends; the gateway's is smaller.
func (r *running) keepMemory(ctx context.Context) error {
	r.memory.Watch(ctx, r.sidecar.Store())
	return nil
}

func (r *running) command(ctx context.Context, jail *sandbox.Sandbox) (sandbox.ExitStatus, error) {
	stop := jail.Relay()
	defer stop()
	limit, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := r.ready(limit); err != nil {
		return sandbox.ExitStatus{}, err
	}
	if err := jail.Go(); err != nil {
		return sandbox.ExitStatus{}, err
	}
	failed := context.AfterFunc(ctx, func() { _ = jail.Close() })
	defer failed()
	return jail.Wait()
}

func onlyErrors(problems []istioapi.Problem) []istioapi.Problem {
	var bad []istioapi.Problem
	for _, p := range problems {
		if p.Severity == istioapi.Error {
			bad = append(bad, p)
		}
	}
	return bad
}
