package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTime is user and system time of all threads of a process, living and dead.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// userHZ is the unit of times in /proc: Linux has 100 for every architecture that Go
// runs on.
const userHZ = 100

// parseStat reads utime and stime, fields 14 and 15 of /proc/PID/stat (proc(5)).
// The second field is a name in parentheses that may have spaces and parentheses.
func parseStat(stat string) (time.Duration, error) {
	i := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("%q is not the stat of a process", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not the stat of a process: %w", stat, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}

// memory is what a process holds, in bytes.
type memory struct{ rss, pss float64 }

// memoryOf reads /proc/PID/smaps_rollup.
func memoryOf(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseRollup(string(b))
}

func parseRollup(text string) (memory, error) {
	rss, err := kilobytes(text, "Rss:")
	if err != nil {
		return memory{}, err
	}
	pss, err := kilobytes(text, "Pss:")
	return memory{rss, pss}, err
}

// kilobytes reads a line "NAME N kB", in bytes.
func kilobytes(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name && f[2] == "kB" {
			n, err := strconv.ParseUint(f[1], 10, 40)
			return float64(n) * 1024, err
		}
	}
	return 0, fmt.Errorf("no line %q", name)
}

// kernelMemory is what the kernel has for TCP (pages of /proc/net/sockstat) and in slabs
// that it cannot give back (sockets among others), of the whole machine, in bytes.
func kernelMemory() (float64, error) {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	pages, err := parseSockstat(string(b))
	if err != nil {
		return 0, err
	}
	if b, err = os.ReadFile("/proc/meminfo"); err != nil {
		return 0, err
	}
	slab, err := kilobytes(string(b), "SUnreclaim:")
	return pages*float64(os.Getpagesize()) + slab, err
}

// parseSockstat reads "mem" of the line "TCP:".
func parseSockstat(text string) (float64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "TCP:" || f[len(f)-2] != "mem" {
			continue
		}
		n, err := strconv.ParseUint(f[len(f)-1], 10, 40)
		return float64(n), err
	}
	return 0, fmt.Errorf("no memory of TCP in %q", text)
}
