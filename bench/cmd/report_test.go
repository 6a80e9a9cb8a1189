package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func costs(all ...float64) (out []sample) {
	for _, v := range all {
		out = append(out, sample{"cpu": v, "rate": 1e6 / v})
	}
	return out
}

func exampleReport() caseReport {
	return caseReport{
		benchCase: benchCase{
			name: "example", about: "a load", columns: []column{{"cpu", "CPU µs", 1}, {"p99", "p99 µs", 0}},
			ratios: []ratio{
				{peer: haproxy, key: "cpu", goal: 1},
				{peer: source, label: "floor", key: "cpu", factor: 2, goal: 1.2},
				{suffix: "-rate", peer: haproxy, key: "rate", higher: true},
				{peer: envoy, key: "cpu", goal: 1},
			},
		},
		rounds: 3, duration: time.Second, targets: []string{source, haproxy, egret},
		samples: samples{source: costs(5, 5, 6), haproxy: costs(10, 20, 10), egret: costs(11, 22, 13)},
	}
}

func TestReport(t *testing.T) {
	rep := exampleReport()
	want := []string{
		"RATIO example egret/haproxy 1.10", "RATIO example egret/floor 1.10", "RATIO example-rate egret/haproxy 1.10",
	}
	if d := cmp.Diff(want, rep.lines()); d != "" {
		t.Errorf("lines for machines, -want +got:\n%s", d)
	}
	text := strings.Join(strings.Fields(rep.text()), " ")
	for _, part := range []string{"haproxy 10.0 egret 13.0", "egret/haproxy 1.10 (goal 1: missed)", "egret/floor 1.10 (goal 1.2: met)"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
	rep.failed = "round 1, egret: status 502\nmore"
	if d := cmp.Diff([]string{"FAIL example round 1, egret: status 502"}, rep.lines()); d != "" {
		t.Error(d)
	}
	rep.skipped = "no reason"
	if d := cmp.Diff([]string{"SKIP example no reason"}, rep.lines()); d != "" {
		t.Error(d)
	}
}

// Tables are replaced where they are, and everything else stays as it was written.
func TestUpdateResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.md")
	const start = "# Results\n\nBy hand.\n\n<!-- begin example -->\nold\n<!-- end example -->\n\nAlso by hand.\n"
	if err := os.WriteFile(path, []byte(start), 0o600); err != nil {
		t.Fatal(err)
	}
	other := exampleReport()
	other.name = "other"
	for range 2 { // the second time nothing is added
		if err := updateResults(path, "A machine.", []caseReport{exampleReport(), other}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Contains(text, "old") || strings.Count(text, "### example") != 1 || strings.Count(text, "### other") != 1 {
		t.Errorf("tables:\n%s", text)
	}
	for _, part := range []string{"By hand.\n", "\nAlso by hand.\n", "| haproxy | 10.0 |  |\n", "A machine.", "| --- | ---: | ---: |\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
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

func TestChoose(t *testing.T) {
	o := options{rounds: 1, duration: time.Second}
	if err := o.choose("http1-128c*, http1-16c"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range o.cases {
		names = append(names, c.name)
	}
	if d := cmp.Diff([]string{"http1-16c", "http1-128c", "http1-128c-nolog"}, names); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "http9", "http1-16c,,"} {
		if err := (&options{rounds: 1, duration: time.Second}).choose(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := (&options{duration: time.Second}).choose("all"); err == nil {
		t.Error("no rounds are taken")
	}
}

// Every case says what it is, and asks only for figures that it shows.
func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range allCases() {
		if seen[c.name] || c.about == "" || c.start == nil || c.measure == nil {
			t.Errorf("%q is there twice or not whole", c.name)
		}
		seen[c.name] = true
		shown := map[string]bool{}
		for _, col := range c.columns {
			shown[col.key] = true
		}
		for _, r := range c.ratios {
			if !shown[r.key] || r.of != "" && !shown[r.of] {
				t.Errorf("%s compares %q, which is in no column", c.name, r.key)
			}
		}
	}
}

// Every case has its place in RESULTS.md, so that a run does not put it at the end.
func TestResultsHaveMarks(t *testing.T) {
	b, err := os.ReadFile("../RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"ratios"}
	for _, c := range allCases() {
		names = append(names, c.name)
	}
	for _, n := range names {
		if strings.Count(string(b), "<!-- begin "+n+" -->\n") != 1 || strings.Count(string(b), "<!-- end "+n+" -->\n") != 1 {
			t.Errorf("RESULTS.md has no marks for %s, or several", n)
		}
	}
}

func TestRatiosMarkdown(t *testing.T) {
	skipped := exampleReport()
	skipped.name, skipped.skipped = "other", "no reason"
	text := ratiosMarkdown("A machine.", []caseReport{exampleReport(), skipped})
	for _, part := range []string{"A machine.\n", "    RATIO example egret/haproxy 1.10 (goal 1: missed)\n", "    SKIP other no reason\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}
