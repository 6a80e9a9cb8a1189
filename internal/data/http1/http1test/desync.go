// Package http1test gives tests the requests of AWS's http-desync-guardian, which are
// not part of the repository. It is for tests only.
package http1test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// DesyncCase is one request of the http-desync-guardian files.
type DesyncCase struct {
	File                       string `yaml:"-"`
	Name, URI, Method, Version string
	Headers                    []struct{ Name, Value string }
	Expected                   struct{ Tier string }
}

// Raw is the head on the wire; the host is localhost where the case has none.
func (c *DesyncCase) Raw() string {
	var b strings.Builder
	b.WriteString(c.Method + " " + c.URI + " " + c.Version + "\r\n")
	host := false
	for _, h := range c.Headers {
		host = host || strings.EqualFold(h.Name, "host")
	}
	if !host {
		b.WriteString("Host: localhost\r\n")
	}
	for _, h := range c.Headers {
		b.WriteString(h.Name + ": " + h.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// DesyncCases reads all cases, in order. Without the files the test is skipped, and says so.
func DesyncCases(t *testing.T) []DesyncCase {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(sharedData(t), "conformance/http-desync-guardian/*.yaml"))
	if len(files) == 0 {
		t.Skip("skipped: the http-desync-guardian files are not here; EGRET_TESTDATA_SHARED names the folder above conformance/")
	}
	var all []DesyncCase
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []DesyncCase
		if err := yaml.Unmarshal(data, &cases); err != nil || len(cases) == 0 {
			t.Fatalf("%s: %d cases, %v", filepath.Base(file), len(cases), err)
		}
		for i := range cases {
			cases[i].File = filepath.Base(file)
		}
		all = append(all, cases...)
	}
	return all
}

// sharedData finds the folder of data that is not part of the repository.
func sharedData(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("EGRET_TESTDATA_SHARED"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(dir), "shared")
		}
	}
	return ""
}
