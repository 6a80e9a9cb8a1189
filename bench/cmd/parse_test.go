package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

const wrkReport = `Running 4s test @ http://127.0.0.1:8080/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.31ms    2.31ms  42.53ms   94.57%
    Req/Sec    24.91k     4.51k   33.46k    68.29%
  101537 requests in 4.10s, 96.73MB read
Requests/sec:  24765.17
Transfer/sec:     23.59MB
`

func TestParseWrk(t *testing.T) {
	got, err := parseWrk(wrkReport)
	if want := (closed{101537, 4100 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, c := range map[string]struct{ out, want string }{
		"refused": {strings.Replace(wrkReport, "Requests/sec", "  Non-2xx or 3xx responses: 101537\nRequests/sec", 1),
			"Non-2xx or 3xx responses: 101537"},
		"failed": {strings.Replace(wrkReport, "Requests/sec", "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec", 1),
			"Socket errors: connect 0, read 3"},
		"nothing":   {"", "no total"},
		"no answer": {strings.Replace(wrkReport, "101537 requests", "0 requests", 1), "0 requests"},
	} {
		if _, err := parseWrk(c.out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const h2loadReport = `starting benchmark...
spawning thread #0: 1 total client(s). Timing-based test with 0s of warm-up time and 2s of main duration for measurements.
Application protocol: h2c

finished in 2.00s, 51230.50 req/s, 45.65MB/s
requests: 102461 total, 102561 started, 102461 done, 102461 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 102461 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 91.30MB (95733221) total, 2.35MB (2459304) headers (space savings 78.95%), 79.44MB (83300793) data
`

func TestParseH2load(t *testing.T) {
	got, err := parseH2load(h2loadReport)
	if want := (closed{102461, 2 * time.Second}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, out := range map[string]string{
		"failed":   strings.Replace(h2loadReport, "0 failed", "3 failed", 1),
		"timeout":  strings.Replace(h2loadReport, "0 timeout", "3 timeout", 1),
		"refused":  strings.Replace(h2loadReport, "0 5xx", "7 5xx", 1),
		"nothing":  "",
		"no total": strings.Replace(h2loadReport, "finished in", "stopped after", 1),
	} {
		if l, err := parseH2load(out); err == nil {
			t.Errorf("%s gives %+v", name, l)
		}
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 100 100 0 -1 4194560 9 0 0 0 250 75 7 8 20 0 1 0 12 0 0"
	for _, name := range []string{"nginx", "a b", "c) S 1 (d"} {
		got, err := parseStat("100 (" + name + ")" + rest)
		if want := 3250 * time.Millisecond; err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "100 (x", "100 (x) S 1 2", "100 (x) S 1 1 1 0 -1 1 9 0 0 0 x 75 7"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	got, err := parseRollup("5581-7ffd ---p 00000000 00:00 0 [rollup]\nRss:    1000 kB\nPss:     500 kB\nPss_Anon: 1 kB\n")
	if want := (memory{1000 << 10, 500 << 10}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := parseRollup("Rss: many kB\n"); err == nil {
		t.Error("words are taken for numbers")
	}
	if m, err := memoryOf(os.Getpid()); err != nil || m.rss < m.pss || m.pss == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if pages, err := parseSockstat("sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 42\nUDP: inuse 1 mem 2\n"); err != nil || pages != 42 {
		t.Errorf("%v, %v", pages, err)
	}
	if _, err := parseSockstat("UDP: inuse 1 mem 2\n"); err == nil {
		t.Error("there is no TCP")
	}
	if b, err := kernelMemory(); err != nil || b <= 0 {
		t.Errorf("%v, %v", b, err)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add(wrkReport)
	f.Add(h2loadReport)
	f.Add("100 (x) S 1 1 1 0 -1 1 9 0 0 0 250 75 7")
	f.Add("TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 42")
	f.Add("Rss: 10 kB\nPss: 9 kB")
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := parseWrk(s); err == nil && (l.requests <= 0 || l.elapsed <= 0) {
			t.Errorf("%+v", l)
		}
		if l, err := parseH2load(s); err == nil && (l.requests <= 0 || l.elapsed <= 0) {
			t.Errorf("%+v", l)
		}
		if d, err := parseStat(s); d < 0 || err != nil && d != 0 {
			t.Errorf("%v, %v", d, err)
		}
		if p, err := parseSockstat(s); err == nil && p < 0 {
			t.Errorf("%v", p)
		}
		if m, err := parseRollup(s); err == nil && (m.rss < 0 || m.pss < 0) {
			t.Errorf("%+v", m)
		}
	})
}
