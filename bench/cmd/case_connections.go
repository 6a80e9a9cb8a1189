package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	idleConnections = 20_000
	// spareFiles is what a process may have open besides the connections.
	spareFiles = 200
)

// connectionsCase is the memory of a connection that does nothing.
func connectionsCase() benchCase {
	return benchCase{
		name: "connections",
		about: fmt.Sprintf("%d kept HTTP/1.1 connections that made one request each (fewer where open files are limited; the table says): `load idle`; RSS of the proxy before and after; "+
			"kernel is what all sockets of the connections need, both ends", idleConnections),
		columns: []column{{"n", "connections", 0}, {"bytes", "RSS bytes/connection", 0}, {"kernel", "kernel bytes/connection", 0}, {"rss", "RSS MB", 1}, {"limit", "goal", 0}},
		ratios: []ratio{
			{peer: egret, label: "8KiB", key: "bytes", of: "limit", goal: 1},
			{peer: envoy, key: "bytes"}, {peer: nginx, key: "bytes"},
		},
		rounds: 1,
		start: func(ctx context.Context, s *session) ([]*target, error) {
			o, err := s.startOrigin(ctx)
			if err != nil {
				return nil, err
			}
			c := sidecar{yaml: registryYAML([]entry{httpOrigin(o.address, "HTTP")}, others), accessLog: true,
				captured: []captured{httpCaptured}, connections: 2 * idleConnections}
			return s.startPeers(ctx, map[string]func() (*target, error){
				egret: func() (*target, error) { return s.startEgret(ctx, c, asks200) },
				envoy: func() (*target, error) { return s.startEnvoy(ctx, c, asks200) },
				nginx: func() (*target, error) { return s.startNginx(ctx, o.address, true) },
			})
		},
		measure: measureConnections,
	}
}

func measureConnections(ctx context.Context, s *session, t *target) (sample, error) {
	n, err := possibleConnections()
	if err != nil {
		return nil, err
	}
	if n < idleConnections {
		s.note("%d open files are allowed here, so there are %d connections", n+spareFiles, n)
	}
	if _, err := s.wrk(ctx, t, 16, s.duration, ""); err != nil { // what a proxy allocates once
		return nil, err
	}
	before, err := t.settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	kernelBefore, err := kernelMemory()
	if err != nil {
		return nil, err
	}
	in, out := io.Pipe()
	client, err := startProcess(ctx, pinned(s.otherCore, filepath.Join(s.binaries, "load"), "idle",
		"-address", t.address, "-host", originHost, "-connections", strconv.Itoa(n)), in, nil)
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	defer func() {
		_ = out.Close() // its standard input: the process is waited for until that is read
		client.stop()
	}()
	err = client.until(ctx, func(context.Context) error {
		if !strings.Contains(client.output(), "ready") {
			return errors.New("the connections are not open yet")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	after, err := t.settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	kernelAfter, err := kernelMemory()
	if err != nil {
		return nil, err
	}
	return sample{
		"n": float64(n), "bytes": (after.rss - before.rss) / float64(n), "kernel": (kernelAfter - kernelBefore) / float64(n),
		"rss": after.rss / 1e6, "limit": 8192,
	}, nil
}

// possibleConnections is how many connections one process can hold here.
func possibleConnections() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	const all = idleConnections + spareFiles
	if limit.Max < all { // more needs a privilege
		raised := unix.Rlimit{Cur: all, Max: all}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return int(min(limit.Max, all)) - spareFiles, nil
}
