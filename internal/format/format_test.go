package format

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := map[string][]Part{
		"":               nil,
		"100%% of it":    {{Literal: "100% of it"}},
		"%%%PROTOCOL%%%": {{Literal: "%"}, {Command: "PROTOCOL"}, {Literal: "%"}},
		`a "%REQ(X?:Y):10%" %SPAN_ID%`: {{Literal: `a "`}, {Command: "REQ", Args: "X?:Y", Max: 10, Quoted: true},
			{Literal: `" `}, {Command: "SPAN_ID"}},
		"%REQUEST_HEADER(x)%%RESPONSE_TRAILER(y)%": {{Command: "REQ", Args: "x"}, {Command: "TRAILER", Args: "y"}},
		"%DYNAMIC_METADATA(a:b(c)d)%":              {{Command: "DYNAMIC_METADATA", Args: "a:b(c)d"}},
		"%START_TIME(%Y (%Z))%":                    {{Command: "START_TIME", Args: "%Y (%Z)"}},
		"%UPSTREAM_HOST:5%":                        {{Command: "UPSTREAM_HOST", Max: 5}},
	}
	for text, want := range tests {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// What Envoy refuses is refused, and named.
func TestRefused(t *testing.T) {
	tests := map[string]string{
		"a %NO_SUCH_THING% b":          `"%NO_SUCH_THING%": no such command operator`,
		"50% of %PROTOCOL%":            "is not a command operator",
		"%PROTOCOL":                    "is not a command operator",
		"%":                            "is not a command operator",
		"%lower%":                      "is not a command operator",
		"%REQ(x%":                      "is not a command operator",
		"%REQ(x):%":                    "is not a command operator",
		"%REQ(x):999999999999%":        "is not a command operator",
		"%REQ%":                        `"%REQ%": a header name is needed`,
		"%REQ()%":                      "a header name is needed",
		"%REQ(a?b?c)%":                 "more than one alternative",
		"%RESP(a?)%":                   "no alternative",
		"%FILE_CONTENT(/etc/passwd)%":  "not supported: a configuration from the control plane may not read files",
		"%SECRET(x)%":                  "not supported",
		"%GRPC_STATUS(Camel)%":         "the argument is one of",
		"%PATH(X)%":                    "the argument is one of",
		"%PATH(NQ:HOST)%":              "the argument is one of",
		"%REQUESTED_SERVER_NAME(SNI)%": "the argument is one of",
		"%QUERY_PARAM%":                "an argument is needed",
		"%COMMON_DURATION(A:B)%":       "START:END:PRECISION",
		"%COMMON_DURATION(A:B:s)%":     "the argument is one of",
		"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(129)%": "prefix length",
		"%COALESCE(x)%":                                   "JSON object",
		`%COALESCE({})%`:                                  "0 operators",
		`%COALESCE({"operators": ["X"]})%`:                `"X": no such command operator`,
		`%COALESCE({"operators": [{"command": "REQ"}]})%`: "a header name is needed",
		`%COALESCE({"operators": [5]})%`:                  "cannot unmarshal",
		strings.Repeat("%%", MaxLength):                   "bytes",
		strings.Repeat("%PROTOCOL%", MaxParts+1):          "parts",
	}
	for text, want := range tests {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", abbreviate(text), err, want)
		}
	}
}

// nested is %COALESCE% in itself, n times.
func nested(n int) string {
	text := `{"operators": ["PROTOCOL"]}`
	for range n {
		quoted, _ := json.Marshal(text)
		text = fmt.Sprintf(`{"operators": [{"command": "COALESCE", "param": %s}]}`, quoted)
	}
	return "%COALESCE(" + text + ")%"
}

func TestCoalesceDepth(t *testing.T) {
	if _, err := Parse(nested(coalesceDepth - 1)); err != nil {
		t.Error(err)
	}
	if _, err := Parse(nested(coalesceDepth)); err == nil {
		t.Error("endless nesting is taken")
	}
}

func TestCheckJSON(t *testing.T) {
	deep := any("%PROTOCOL%")
	for range MaxJSONDepth + 1 {
		deep = []any{deep}
	}
	tests := map[string]struct {
		format map[string]any
		want   string
	}{
		"good":    {map[string]any{"a": "%PROTOCOL%", "b": map[string]any{"c": []any{1.5, true, nil, "x"}}}, ""},
		"unknown": {map[string]any{"a": map[string]any{"b": []any{"%NOPE%"}}}, `a: b: "%NOPE%": no such`},
		"deep":    {map[string]any{"a": deep}, "deeper than"},
	}
	for name, c := range tests {
		err := CheckJSON(c.format)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`[%START_TIME(%s.%3f)%] "%REQ(X?:PATH):8%" %% %COALESCE({"operators": ["REQ"]})%`)
	f.Add(nested(3))
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := Parse(text)
		if err != nil {
			return
		}
		for _, p := range parts {
			if (p.Command == "") == (p.Literal == "") {
				t.Errorf("%q: part %+v", text, p)
			}
			if c, ok := Lookup(p.Command); p.Command != "" && (!ok || c.Use == Refused || c.Name != p.Command) {
				t.Errorf("%q: command %q", text, p.Command)
			}
		}
	})
}

var update = flag.Bool("update", false, "write docs/access-log.md")

// docs/access-log.md is made from the table (go test -update).
func TestDocument(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "access-log.md")
	want := document()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s does not agree with the table; run: go test ./internal/format -run TestDocument -update", file)
	}
}

const documentHead = `# Access log formats

Made by ` + "`go test ./internal/format -run TestDocument -update`" + ` from the table of commands; do not edit.

Access logs have Envoy's format strings, text or JSON, as Istio configures them: ` + "`accessLogFile`, `accessLogFormat`" + `
and ` + "`accessLogEncoding`" + ` of MeshConfig, and Telemetry with the providers of MeshConfig. Without a format it is Istio's
default. Every command operator of Envoy 1.40 is in one of three lists: it prints what Envoy prints, it is known and
always "-" (` + "`null`" + ` in JSON), or a format with it is refused: as an error of the YAML where it is written, and as a NACK
where another control plane sends it. So is a format with an unknown operator or a bad argument.

Values that come from the network are escaped (` + "`\\xHH`" + ` in text), so that nobody who is logged can forge a line.

For a refusal, ` + "`%RESPONSE_CODE_DETAILS%`" + ` is ` + "`egret:REASON`" + ` where Envoy has no word of its own; so Istio's default format
shows why. ` + "`%EGRET_REASON%` and `%EGRET_DETAIL%`" + ` print reason and sentence of every entry.

A log file that is slow, full or stuck never holds up a request: lines wait in a bounded buffer (4 MB for each file), are
dropped beyond it, and are counted in ` + "`egret_access_log_dropped_total`" + `.

## Response flags

` + "`%RESPONSE_FLAGS%`" + ` has Envoy's flags. The proxy sets

* of routing: ` + "`NR` (no filter chain, no route), `NC` (no such cluster)" + `;
* of the upstream: ` + "`UH` (no healthy endpoint, and refusals of connections), `UF` (connecting failed), `UO` (a circuit breaker is open; too many connections of clients), `UC` (it closed the connection), `UR` (it reset the stream), `UPE` (it broke the protocol), `UT` (timeout of the route or of an attempt), `URX` (retries or attempts to connect are used up), `DF` (its name could not be resolved)" + `;
* of the client: ` + "`DC` (it went away, also by resetting a stream of HTTP/2), `DPE` (it broke the protocol)" + `;
* of time: ` + "`SI` (nothing moved), `DT` (it took longer than max_stream_duration)" + `;
* of fault injection: ` + "`DI`, `FI`" + `.

It never sets ` + "`LH`, `RL`, `RLSE`, `UAEX`, `RFCF`, `NFCF`, `IH`" + ` (filters that it does not have), ` + "`DO`, `UDO`" + ` (drop_overloads is
refused), ` + "`OM`, `LR`, `UMSDR`, `DR`" + `.
`

func document() string {
	var b strings.Builder
	b.WriteString(documentHead)
	also := map[string]string{}
	for alias, name := range Aliases() {
		also[name] = alias
	}
	for _, list := range []struct {
		title string
		use   Use
	}{{"Printed", Prints}, {"Always empty", Empty}, {"Refused", Refused}} {
		fmt.Fprintf(&b, "\n## %s\n\n", list.title)
		for _, c := range Commands() {
			if c.Use != list.use {
				continue
			}
			fmt.Fprintf(&b, "* `%s`", c.Name)
			if alias := also[c.Name]; alias != "" {
				fmt.Fprintf(&b, ", also `%s`", alias)
			}
			if c.Note != "" {
				fmt.Fprintf(&b, ": %s", c.Note)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestCommandsHaveReasons(t *testing.T) {
	for _, c := range commands {
		if c.Use != Prints && c.Note == "" {
			t.Errorf("%s: no reason", c.Name)
		}
	}
	if !slices.IsSortedFunc(commands, func(a, b Command) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	for i := 1; i < len(commands); i++ {
		if commands[i].Name == commands[i-1].Name {
			t.Errorf("%s is there twice", commands[i].Name)
		}
	}
}
