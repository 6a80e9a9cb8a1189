package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The whole harness on one short round, where the tools are there.
func TestRun(t *testing.T) {
	tools := findTools()
	if testing.Short() || tools["nginx"] == "" || tools["wrk"] == "" || tools["taskset"] == "" {
		t.Skip("needs nginx, wrk and taskset, and some seconds")
	}
	t.Setenv("TMPDIR", t.TempDir())
	o := options{rounds: 1, duration: time.Second, peers: "envoy,nginx"}
	if err := o.choose("http1-16c"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"RATIO http1-16c egret/nginx ", "RATIO http1-16c egret/floor "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "egret-bench-")
	}) {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
