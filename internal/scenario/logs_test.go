package scenario

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// textLine is a line of the access log in Istio's format (xdsgen.DefaultTextFormat). Its
// groups are what is the same whatever proxy wrote it.
var textLine = regexp.MustCompile(`^\[[^]]+\] ("[^"]*" \d+) (\S+) (\S+) (\S+) ` + // request, code; flags, details, termination
	`"((?:[^"\\]|\\.)*)" \d+ \d+ \d+ \S+ ` + // transport failure; bytes, times
	`"[^"]*" ("(?:[^"\\]|\\.)*") "[^"]*" ("[^"]*") ("[^"]*") (\S+) ` + // user agent, authority, upstream host, cluster
	`\S+ (\S+) \S+ (\S+) (\S+)$`) // where the client called, SNI, route

// cellName is in paths that must not be the same in two cells.
var cellName = regexp.MustCompile(`\b(egret|envoy)-(egret|envoy)\b`)

// alike is what of a line of an access log must be the same in each cell; "" for lines of
// what was not carried: its status is in the scripts, how it is told differs by design
// (docs/interop.md). Left out are times, the client's ports, ids, and the address that
// DNS gave the app.
func alike(line string) string {
	line = cellName.ReplaceAllString(line, "CELL")
	m := textLine.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	request, flags, details, agent, authority := m[1], m[2], m[3], m[6], m[7]
	upstream, cluster, local, sni, route := m[8], m[9], m[10], m[11], m[12]
	if details == "egret:policy_changed" { // by design; it was carried until then
		flags, details = "-", "-"
	}
	if flags != "-" || upstream == `"-"` || cluster == "BlackHoleCluster" || strings.HasPrefix(details, "egret:") {
		return ""
	}
	if details == "websocket_handshake_unsuccessful" { // Envoy's word for an upgrade that the server refused
		details = "via_upstream"
	}
	port := local[strings.LastIndexByte(local, ':')+1:]
	return strings.Join([]string{request, details, agent, authority, upstream, cluster, port, sni, route}, " ")
}

// logsOf are the access logs below a folder, each as its set of lines, alike.
func logsOf(dir string) (map[string][]string, error) {
	out := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "sidecar.log" && d.Name() != "istio-egressgateway.log" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if line = alike(strings.TrimSpace(line)); line != "" {
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		name, err := filepath.Rel(dir, path)
		out[name] = slices.Compact(lines)
		return err
	})
	return out, err
}

// differences of two cells' logs; "" when they are alike. A log that only one of them has
// is of a command that only one of them ran.
func differences(want, got map[string][]string) string {
	var b strings.Builder
	for name, lines := range want {
		if other, ok := got[name]; ok {
			if diff := cmp.Diff(lines, other); diff != "" {
				b.WriteString(name + " (-first cell, +this cell):\n" + diff)
			}
		}
	}
	return b.String()
}

func TestAlike(t *testing.T) {
	const line = `[2026-11-27T03:16:00.123Z] "GET /via HTTP/1.1" 200 %s - "-" 0 70 1 0 "192.0.0.2" "curl/8" "0a1b" "api.example.com" "198.51.100.31:80" outbound|80||api.example.com 100.64.0.2:1000 192.0.0.2:80 192.0.0.2:40000 - default`
	const want = `"GET /via HTTP/1.1" 200 via_upstream "curl/8" "api.example.com" "198.51.100.31:80" outbound|80||api.example.com 80 - default`
	for end, want := range map[string]string{"- via_upstream": want, "UC upstream_reset": "", "- egret:host_mismatch": ""} {
		if got := alike(fmt.Sprintf(line, end)); got != want {
			t.Errorf("%s: got  %s\nwant %s", end, got, want)
		}
	}
	if got := alike("something else of egret-envoy"); got != "something else of CELL" {
		t.Errorf("got %q", got)
	}
	logs := func(lines ...string) map[string][]string { return map[string][]string{"logs/sidecar.log": lines} }
	if diff := differences(logs("a", "b"), logs("a", "b")); diff != "" {
		t.Error(diff)
	}
	if differences(logs("a", "b"), logs("a", "c")) == "" || differences(logs("a"), logs()) == "" {
		t.Error("a difference is not told")
	}
}
