package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	if want := (load{101537, 4100 * time.Millisecond}); err != nil || got != want {
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

func FuzzParseStat(f *testing.F) {
	f.Add("100 (x) S 1 1 1 0 -1 1 9 0 0 0 250 75 7")
	f.Add("()))")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseStat(s); d < 0 || err != nil && d != 0 {
			t.Errorf("%v, %v", d, err)
		}
	})
}

func FuzzParseWrk(f *testing.F) {
	f.Add(wrkReport)
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := parseWrk(s); err == nil && (l.requests <= 0 || l.elapsed <= 0) {
			t.Errorf("%+v", l)
		}
	})
}

func TestParseConnections(t *testing.T) {
	o := options{rounds: 1, duration: time.Second}
	if err := parseConnections("16, 128", &o); err != nil || !cmp.Equal(o.connections, []int{16, 128}) {
		t.Errorf("%v, %v", o.connections, err)
	}
	for _, bad := range []string{"", "x", "0", "1,,2", "99999"} {
		o := options{rounds: 1, duration: time.Second}
		if err := parseConnections(bad, &o); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func micros(all ...int) (out []sample) {
	for _, us := range all {
		out = append(out, sample{perRequest: time.Duration(us) * time.Microsecond, perSecond: 1e6 / float64(us)})
	}
	return out
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	b := &bench{
		options: options{connections: []int{16}, rounds: 3, duration: time.Second},
		out:     &out, origin: &target{name: "origin"},
		proxies: []*target{{name: "haproxy"}, {name: egret}},
		results: results{
			"origin": {16: micros(6, 6, 7)}, "haproxy": {16: micros(10, 20, 10)}, egret: {16: micros(11, 22, 13)},
		},
	}
	b.report()
	text := out.String()
	if !strings.HasSuffix(text, "\nRATIO http1-16c egret/haproxy 1.10\n") {
		t.Errorf("the end of %q", text)
	}
	if !strings.Contains(strings.Join(strings.Fields(text), " "), "egret 16 13.0 11.0 22.0 76923") {
		t.Errorf("no line for egret in %q", text)
	}
	if strings.Contains(text, "egret/origin") || strings.Contains(text, "egret/egret") {
		t.Errorf("ratios with what is no peer: %q", text)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{1, 3}, 2}, {[]float64{1, 2, 9}, 2}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v", c.in, got)
		}
	}
}

// The whole harness on one short round, where the tools are there.
func TestRun(t *testing.T) {
	tools := findTools()
	t.Setenv("TMPDIR", t.TempDir())
	if testing.Short() || tools["nginx"] == "" || tools["wrk"] == "" {
		t.Skip("needs nginx and wrk, and some seconds")
	}
	var out bytes.Buffer
	o := options{connections: []int{4}, rounds: 1, duration: time.Second, entries: 3}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "RATIO http1-4c egret/nginx ") {
		t.Errorf("no ratio in:\n%s", out.String())
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "egret-bench-")
	}) {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
