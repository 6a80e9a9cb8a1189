package http1

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// desyncCase is one request of the AWS http-desync-guardian test files.
type desyncCase struct {
	Name, URI, Method, Version string
	Headers                    []struct{ Name, Value string }
	Expected                   struct{ Tier string }
}

func (c *desyncCase) raw() string {
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

// normalised are the Ambiguous cases that are accepted: a body of GET or HEAD has
// one reading here, and goes on with its framing written anew.
var normalised = map[string]bool{
	"Get with a body and Content-Length":     true,
	"Get with a body and Transfer-Encoding":  true,
	"Head with a body and Content-Length":    true,
	"Head with a body and Transfer-Encoding": true,
	"Has a CL in GET":                        true,
	"Has a TE in GET":                        true,
}

// strict are the Compliant and Acceptable cases that are refused, by rule, and why.
var strict = map[string]string{
	// Only "chunked" is understood; other codings are end-to-end Content-Encoding today.
	"Different Transfer-Encoding headers":                  "transfer_encoding_not_chunked",
	"Different Transfer-Encoding headers combined":         "transfer_encoding_not_chunked",
	"Transfer-Encoding with a param: chunked;custom_param": "transfer_encoding_not_chunked",
	"Correct TE OK": "transfer_encoding_not_chunked",
	"Transfer-Encoding: identity and chunked OK":                "transfer_encoding_not_chunked",
	"Multiple transfer encoding headers in a single request OK": "transfer_encoding_not_chunked",
	"TE with custom parameters OK":                              "transfer_encoding_not_chunked",
	// RFC 9112 section 3.2: no fragments, no bytes outside of ASCII, not empty.
	"Compliant URL":        "target_fragment",
	"International in URI": "target_character",
	"Empty URI":            "request_line",
	// RFC 9112 section 3: exactly one space, and the versions that are spoken.
	"[space] in URI":                      "request_line",
	"Extra spaces in version":             "request_line",
	"Non-RFC, but OK HTTP/0.9":            "version_not_supported",
	"Empty version, which means HTTP/0.9": "version_not_supported",
	"Unknown but OK HTTP/1.2":             "version_not_supported",
	// RFC 9112 section 5.1: white space before the colon must be refused.
	"No TE/CL headers, some others are non-compliant": "space_before_colon",
	"TE and some others are non-compliant":            "space_before_colon",
	"CL and some others are non-compliant":            "space_before_colon",
	// RFC 9110 section 5.5: control characters.
	"A non-essential header with a non-printable character (x01)": "field_name_invalid",
	`Some-Header\x01`:        "field_name_invalid",
	`\x01Some-Header`:        "field_name_invalid",
	`Some-Header: \x01value`: "field_value_control",
	`Some-Header: value\x01`: "field_value_control",
}

func TestDesyncGuardian(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(sharedData(t), "conformance/http-desync-guardian/*.yaml"))
	if len(files) == 0 {
		t.Skip("the http-desync-guardian files are not here")
	}
	seen := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []desyncCase
		if err := yaml.Unmarshal(data, &cases); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		for i := range cases {
			seen[cases[i].Name] = true
			t.Run(filepath.Base(file)+"/"+cases[i].Name, func(t *testing.T) { checkDesync(t, &cases[i]) })
		}
	}
	for name := range strict {
		if !seen[name] {
			t.Errorf("no case is named %q", name)
		}
	}
}

func checkDesync(t *testing.T, c *desyncCase) {
	var q Request
	err := NewReader(strings.NewReader(c.raw()), new(Pool), Limits{}).ReadRequest(&q)
	rule := ruleOf(err)
	switch c.Expected.Tier {
	case "Severe":
		if rule == "" {
			t.Errorf("accepted: %q", c.raw())
		}
	case "Ambiguous":
		if accepted := rule == ""; accepted != normalised[c.Name] {
			t.Errorf("accepted %v (%s): %q", accepted, rule, c.raw())
		}
	case "Compliant", "Acceptable":
		if rule != strict[c.Name] {
			t.Errorf("rule %q, want %q: %q", rule, strict[c.Name], c.raw())
		}
	default:
		t.Errorf("tier %q", c.Expected.Tier)
	}
}

// sharedData finds the folder of data that is not part of the repository.
func sharedData(t *testing.T) string {
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
