package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// memory prints the resident memory of each of Egret's processes. All of the node's
// processes are in the namespace of this one; on another cluster there are none.
func memory(proc string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		what := role(strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00"))
		if what == "" {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "%-40s %s\n", "memory of "+what, resident(string(status)))
	}
	return b.String(), nil
}

// role says what a process of Egret's is; empty is another's.
func role(args []string) string {
	switch filepath.Base(args[0]) {
	case "egretd":
		return "istiod"
	case "egret-proxy":
		for i, a := range args {
			if a == "proxy" && i+1 < len(args) {
				return "a " + args[i+1]
			}
		}
	}
	return ""
}

// resident is the value of VmRSS (proc(5)).
func resident(status string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
