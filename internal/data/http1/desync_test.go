package http1

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/http1/http1test"
)

// refusedCompliant are the Compliant cases that are refused all the same, by rule: what
// two parsers could read differently goes before.
var refusedCompliant = map[string]string{
	"transfer_encoding_not_chunked": "only `chunked` alone is understood. An upstream that does not know the other codings, or reads such a list otherwise, would take the body for the next request; RFC 9112 section 6.1 lets a server answer 501, as Envoy does",
	"target_fragment":               "RFC 9112 section 3.2 has no fragment in a target, and servers differ in whether it belongs to the path; Envoy refuses it too",
	"target_character":              "RFC 3986 has ASCII only; what other bytes mean depends on the server",
	"request_line":                  "RFC 9112 section 3.2 has no empty target",
}

const decisionsFile = "../../../docs/http-desync.md"

var update = flag.Bool("update", false, "write docs/http-desync.md")

// TestDesyncGuardian runs all cases and compares with what is written down about them.
func TestDesyncGuardian(t *testing.T) {
	rows := ""
	for i, c := range http1test.DesyncCases(t) {
		t.Run(fmt.Sprintf("%s/%d %s", c.File, i, c.Name), func(t *testing.T) {
			rule := checkDesync(t, &c)
			if rule == "" {
				rule = "passes"
			}
			name := strings.NewReplacer("|", `\|`, "`", "'").Replace(c.Name)
			rows += fmt.Sprintf("| %s | %s | %s | %s |\n", c.File, name, c.Expected.Tier, rule)
		})
	}
	want := decisionsHead + rows
	if *update {
		if err := os.WriteFile(decisionsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(decisionsFile); err != nil || string(have) != want {
		t.Errorf("%v: docs/http-desync.md does not say what is decided; run: go test ./internal/data/http1 -run TestDesyncGuardian -update", err)
	}
}

// checkDesync returns the rule that refuses the case, or "".
func checkDesync(t *testing.T, c *http1test.DesyncCase) string {
	t.Helper()
	var q Request
	err := NewReader(strings.NewReader(c.Raw()), new(Pool), Limits{}).ReadRequest(&q)
	rule := ruleOf(err)
	switch c.Expected.Tier {
	case "Severe":
		if rule == "" {
			t.Errorf("accepted: %q", c.Raw())
		}
	case "Compliant":
		if rule != "" && refusedCompliant[rule] == "" {
			t.Errorf("refused by %s: %q", rule, c.Raw())
		}
	case "Ambiguous", "Acceptable": // as written down
	default:
		t.Errorf("tier %q", c.Expected.Tier)
	}
	return rule
}

var decisionsHead = `# Decisions on the cases of http-desync-guardian

Made by ` + "`go test ./internal/data/http1 -run TestDesyncGuardian -update`" + ` from the cases of AWS's http-desync-guardian; do not
edit. A case passes, or is refused by the rule that is named: with its status, ` + "`x-egret-rule`" + `, a record, and the end of the
connection. Every Severe case is refused. Of the tiers between, what has exactly one reading here passes, and goes on with
its framing written anew: bodies of GET and HEAD. All else is refused.

Some cases that are called Compliant are refused, since what two parsers could read differently goes before:

` + reasonsOf(refusedCompliant) + `
| File | Case | Tier | Decision |
| --- | --- | --- | --- |
`

func reasonsOf(rules map[string]string) string {
	var b strings.Builder
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		fmt.Fprintf(&b, "* `%s`: %s.\n", rule, rules[rule])
	}
	return b.String()
}
