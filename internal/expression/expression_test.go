package expression

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

type attributes map[string]Value

func (a attributes) Attribute(name string) Value { return a[name] }

func (a attributes) Header(of, name string) (string, bool) {
	v, ok := a[of+" "+name]
	return v.s, ok
}

var call = attributes{
	"response.code": OfInt(503), "request.url_path": OfString("/api/v1beta3/x"), "request.method": OfString("GET"),
	"connection.mtls": OfBool(false), "request.duration": OfDuration(int64(1500 * time.Millisecond)),
	"request.headers x-a": OfString("é"), "xds.cluster_name": OfString("BlackHoleCluster"),
}

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		"response.code >= 400":                                                   true,
		"response.code>=400&&response.code<500":                                  false,
		"response.code >= 400 || connection.mtls":                                true,
		"!(response.code == 200)":                                                true,
		"!connection.mtls == true":                                               true,
		"response.code in [500, 502, 503]":                                       true,
		"response.code in []":                                                    false,
		"request.method in ['PUT', \"POST\"]":                                    false,
		"request.url_path.contains('v1beta3')":                                   true,
		"connection.mtls && request.url_path.contains('v1beta3')":                false,
		"request.url_path.startsWith('/api/') && request.method != 'PUT'":        true,
		"request.url_path.endsWith(request.method)":                              false,
		"request.url_path.matches('v[0-9]+beta')":                                true,
		"size(request.method) == 3 && request.headers['x-a'].size() == 1":        true,
		"request.headers['X-A'] == 'é'":                                          true,
		"'x-a' in request.headers && !('x-b' in request.headers)":                true,
		"has(request.headers['x-b'])":                                            false,
		"has(response.code) && !has(response.grpc_status)":                       true,
		"request.duration > duration('1s') && request.duration < duration('2s')": true,
		"xds.cluster_name == 'BlackHoleCluster'":                                 true,
		"response.code == -1 || response.code == 0x1f7":                          true,
		`request.method == 'G\'' || request.method == "\\"`:                      false,
		// What fails does not match; what decides, decides before.
		"response.grpc_status == 0":                          false,
		"!(response.grpc_status == 0)":                       false,
		"response.grpc_status == 0 || response.code == 503":  true,
		"response.code == 503 || response.grpc_status == 0":  true,
		"response.code == 503 && response.grpc_status == 0":  false,
		"!(response.grpc_status == 0 && response.code == 1)": true,
		"request.headers['x-none'].contains('a')":            false,
		"response.grpc_status in [1]":                        false,
	} {
		x, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := x.Match(call); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                        "not complete",
		"response.code":                           "must be a condition",
		"response.code >=":                        "not complete",
		"response.code >= '400'":                  "at 15: >= between a int and a string",
		"response.cod == 4":                       `"response.cod" is not an attribute that is known; known are response.backend_latency`,
		"foo == 4":                                `"foo" is not an attribute`,
		"request == 4":                            `"request" is not an attribute that is known; known are`,
		"source.principal == 'x'":                 "is not an attribute",
		"response.code + 1 == 4":                  "+ is not supported",
		"response.code > 1 ? true : false":        "?: is not supported",
		"response.code == 1.5":                    "only whole numbers",
		"response.code == 9999999999999999999":    "not a whole number",
		"response.code == 1 response":             `"response" is not expected`,
		"request.method == 'x":                    "without an end",
		`request.method == '\x41'`:                "the escape \\x is not supported",
		"request.method == '''x'''":               "several lines",
		"request.method.reverse() == 'x'":         "reverse() with these arguments is not supported",
		"request.method.lowerAscii('a')":          "not supported",
		"request.url_path.matches('(')":           "missing closing",
		"request.headers == 'x'":                  "== between a map and a string",
		"request.headers[request.method] == 'x'":  "constant name",
		"response.code in [1, 'a']":               "of one type only",
		"response.code in [response.code]":        "constants",
		"has(1)":                                  "has() takes an attribute",
		"duration('x') > duration('1s')":          "not a duration",
		"map(response.code)":                      "map() of a int is not supported",
		"response.code.x == 1":                    "a int has no field",
		"!response.code":                          "! of a int",
		"-response.code == 1":                     "- is supported before",
		"response.code == 1 # x":                  `"#" has no meaning`,
		"null == null":                            `"null" is not expected`,
		strings.Repeat("(", 100) + "true":         "too deep",
		strings.Repeat("true || ", 1000) + "true": "too many",
		strings.Repeat("!", 9000):                 "bytes",
	} {
		if _, err := Compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x, err := Compile("response.code >= 400 && request.url_path.contains('v1') && 'x-a' in request.headers || response.code in [1, 2]")
	if err != nil {
		t.Fatal(err)
	}
	var a Attributes = still{}
	if n := testing.AllocsPerRun(100, func() { x.Match(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type still struct{}

func (still) Attribute(name string) Value {
	if name == "response.code" {
		return OfInt(503)
	}
	return OfString("/v1")
}

func (still) Header(string, string) (string, bool) { return "x", true }

func FuzzCompile(f *testing.F) {
	f.Add("response.code >= 400 && request.headers['x'].matches('a|b') || !has(request.path)")
	f.Add("(1 in [1,2]) == (size('é\\n') < -1)")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := Compile(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		x.Match(call)
		x.Match(attributes{})
		if again, err := Compile(x.String()); err != nil || fmt.Sprint(again) != fmt.Sprint(x) {
			t.Errorf("%q compiles once only: %v", text, err)
		}
	})
}
