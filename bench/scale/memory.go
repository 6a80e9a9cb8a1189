package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory tells the memory of a process and of those below it, but not of the probe.
func memory(pid int) string {
	var b strings.Builder
	for pid != 0 {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		words := strings.Split(string(name), "\x00")
		if len(words) > 1 && words[1] == probeWord {
			break
		}
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			fmt.Fprintf(&b, "  %-22s %v\n", filepath.Base(words[0]), err)
		} else {
			fmt.Fprintf(&b, "  %-22s PSS %s, RSS %s, private %s\n", filepath.Base(words[0]),
				megabytes(rollup, "Pss:"), megabytes(rollup, "Rss:"), megabytes(rollup, "Private_Dirty:"))
		}
		pid = firstChild(pid)
	}
	return b.String()
}

// cpu is the CPU time that a process has used, of all its threads.
func cpu(pid int) time.Duration {
	var used unix.Timespec
	// The clock of a process (clock_getcpuclockid(3)): its number, inverted, and the kind 2.
	if err := unix.ClockGettime(int32(^pid<<3|2), &used); err != nil {
		return 0
	}
	return time.Duration(used.Nano())
}

// firstChild is a child process of pid, 0 for none. Each process here has at most one.
func firstChild(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		if child, err := strconv.Atoi(strings.Fields(string(text) + " 0")[0]); err == nil && child != 0 {
			return child
		}
	}
	return 0
}

func megabytes(rollup []byte, key string) string {
	for line := range strings.Lines(string(rollup)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			kb, _ := strconv.Atoi(f[1])
			return fmt.Sprintf("%.1f MB", float64(kb)/1024)
		}
	}
	return "?"
}
