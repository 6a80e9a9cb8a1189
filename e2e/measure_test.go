package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemory(t *testing.T) {
	proc := t.TempDir()
	for pid, p := range map[string]struct{ cmdline, status string }{
		"1": {"/usr/local/bin/egretd\x00discovery\x00", "Name:\tegretd\nVmRSS:\t   20480 kB\n"},
		"2": {"/usr/local/bin/egret-proxy\x00proxy\x00router\x00", "VmRSS:\t   1024 kB\n"},
		"3": {"/usr/local/bin/egret-proxy\x00istio-iptables\x00", "VmRSS:\t   1 kB\n"},
		"4": {"/bin/sh\x00", "VmRSS:\t   1 kB\n"},
	} {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]string{"cmdline": p.cmdline, "status": p.status} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := memory(proc)
	want := "memory of istiod                         20480 kB\nmemory of a router                       1024 kB\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
