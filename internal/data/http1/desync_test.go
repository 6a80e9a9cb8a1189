package http1

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/http1/http1test"
)

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
		if rule != "" {
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
connection. Every Severe case is refused, and every Compliant one passes. Of the tiers between, what has exactly one reading
here passes, and goes on with its framing written anew: bodies of GET and HEAD. All else is refused.

What passes although two parsers could read it differently is written anew, so that what goes upstream has one reading:

* A fragment in the target is dropped before the route is chosen. RFC 9112 section 3.2 has no fragment in a target, servers
  differ in whether it belongs to the path, and so none sees it. Envoy as Istio configures it does the same
  (` + "`envoy.reloadable_features.http_reject_path_with_fragment`" + ` is false). A target that is nothing else is refused.
* Bytes of the target that are not ASCII are percent-encoded before the route is chosen (RFC 3987 section 3.1), over HTTP/1 and
  HTTP/2. So a route that matches such a path has to name its encoded form, as for a client that encodes. They are no part of a host.
* An empty target, exactly two spaces between method and version, is the empty path, which is ` + "`/`" + ` (RFC 9112 section 3.2.1). The
  other reading, HTTP/0.9 with the target ` + "`HTTP/1.1`" + `, has no header section and reaches nobody. With OPTIONS, where ` + "`/`" + ` and ` + "`*`" + `
  differ, and with CONNECT it is refused.
* Transfer codings before chunked go on as they are, since only chunked ends the body: the list is written anew in one field,
  from the names of the registry (gzip, deflate, compress), without ` + "`identity`" + ` and parameters, and the body in chunks of our own.
  chunked is the last of all fields together and there once; unknown names, empty members and quoted strings are refused, and so is
  every list beside a Content-Length or in HTTP/1.0. An upstream that does not know the list should answer 501 (RFC 9112
  section 6.1). One that ignores it, and takes the body for the next request, finds a line of nothing but a hexadecimal number
  where a request line would be, on a connection for which ` + "`Connection: close`" + ` was said and on which Egret sends nothing more:
  no answer can be taken for another's. The client's connection ends likewise: what follows such
  a request on it is not read, in case whoever stands before Egret read the list otherwise. Such a body is not sent a second
  time, by a retry or a mirror, as with a length instead of chunks. To an HTTP/2 upstream, where there are no transfer codings, the
  answer is 501 (` + "`not_supported`" + `).

Responses may not have codings besides chunked: no client has said in TE that it takes any.

| File | Case | Tier | Decision |
| --- | --- | --- | --- |
`
