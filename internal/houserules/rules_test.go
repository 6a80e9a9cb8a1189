// Package houserules checks the rules of the house that no linter knows: who may
// import whom, what a package must have. It has no code, only tests.
package houserules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/egret-mesh/egret/"

// importRules: a package below from must not depend on anything below what.
var importRules = []struct{ from, what, why string }{
	{"internal/data", "internal/control", "the halves meet only as xDS"},
	{"internal/data", "internal/host", "the proxy does not know where it runs"},
	{"internal/data", "istio.io", "the proxy knows xDS, never Istio"},
	{"internal/data", "k8s.io", "the proxy is lean"},
	{"internal/control", "internal/data", "the halves meet only as xDS"},
	{"internal/control", "internal/host", "the control plane knows no sockets"},
	{"internal/control/inject", "k8s.io/client-go", "injection talks to no API server"},
	{"internal/control/mesh", "google.golang.org/grpc", "the snapshot is pure"},
	{"internal/control/mesh", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/xdsgen", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/istioapi", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/source", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/discovery", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/analyze", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/standalone", "k8s.io", "a machine is no cluster"},
	{"internal/agent", "k8s.io", "the proxy is lean"},
	{"internal/control/sds", "k8s.io", "only control/kube knows a cluster's clients"},
	{"internal/control/kube", "internal/control/xdsgen", "what objects mean to proxies is not its"},
	{"internal/control/mesh", "os/exec", "the snapshot is pure"},
	{"internal/control", "internal/standalone", "where it runs is handed in"},
	{"internal/data", "internal/standalone", "where it runs is handed in"},
	{"internal/control/identity", "k8s.io", "who signs does not know where its key is kept"},
	{"internal/control/identity", "internal/", "names and keys are a leaf"},
	{"internal/xds", "internal/control", "the payload is opaque"},
	{"internal/xds", "internal/data", "the payload is opaque"},
	{"internal/xds", "internal/host", "the wire does not know where it runs"},
	{"internal/host", "internal/control", "capture knows no policy"},
	{"internal/host", "internal/data", "capture knows no proxy"},
	{"internal/data/decide", "internal/data/upstream", "the decision is pure"},
	{"internal/data/decide", "internal/data/record", "the decision is pure"},
	{"internal/data/reason", "internal/", "the list of reasons is a leaf"},
	{"internal/egretd", "internal/data", "the control plane is no proxy"},
	{"internal/egretproxy", "internal/control", "the proxy runs under any control plane"},
	{"cmd/egret-proxy", "internal/control", "the proxy runs under any control plane"},
	{"cmd/egret-proxy", "istio.io", "the proxy knows xDS, never Istio"},
	{"cmd/egret-proxy", "k8s.io", "the proxy is lean"},
	{"cmd/egret", "k8s.io", "egret run does not carry what clusters need: egret-cluster has it"},
	{"cmd/egret", "helm.sh", "egret run does not carry what clusters need: egret-cluster has it"},
	{"internal", "google.golang.org/grpc/xds", "only a test is a gRPC client without a proxy"},
	{"cmd", "google.golang.org/grpc/xds", "only a test is a gRPC client without a proxy"},
	{"internal/bootstrap", "internal/control", "a bootstrap is for both halves"},
	{"internal/agent", "istio.io", "the proxy is lean: Istio's contract is read, not linked"},
	{"internal/agent", "internal/control", "an agent is the proxy's"},
	{"internal/data", "internal/agent", "the proxy does not know where its secrets come from"},
	{"internal/bootstrap", "internal/data", "a bootstrap is for both halves"},
	{"internal/proxyconfig", "internal/control", "it reads any Envoy"},
	{"internal/proxyconfig", "internal/data", "it reads any Envoy"},
	{"internal/proxystatus", "internal/data", "it reads what a control plane tells"},
	{"internal/anyjson", "internal/", "JSON is a leaf, for both halves"},
	{"internal/file", "internal/", "files are a leaf, for both halves"},
	{"internal/format", "internal/", "the syntax of formats is a leaf, for both halves"},
	{"internal/backoff", "internal/", "how long to wait is a leaf, for both halves"},
	{"internal/expression", "internal/", "expressions are a leaf, for both halves"},
	{"internal/data/http1", "net/http", "the codec is our own"},
	{"cmd", "internal/interop", "other proxies are for tests"},
	{"cmd", "internal/runtest", "only tests run things for tests"},
	{"internal/runtest", "internal/", "what runs tests is a leaf"},
	{"internal/lab/internet", "internal/data", "the simulated internet is the outside world"},
}

// onlyRules: what a package may depend on of this module, and nothing else.
var onlyRules = []struct {
	pkg  string
	only []string
	why  string
}{
	{"internal/data/http1", nil, "a codec is a leaf"},
	{"internal/data/persistent", nil, "a map is a leaf"},
	{"internal/data/workers", nil, "goroutines know nothing of what runs on them"},
	{"internal/data/http2", []string{"internal/data/http1", "internal/data/workers"}, "a codec knows messages and frames only"},
	{"internal/data/tunnel", []string{"internal/data/http1", "internal/data/http2", "internal/data/workers"}, "a tunnel is asked for over a connection that others made"},
}

func TestOnlyRules(t *testing.T) {
	all := dependencies(t)
	for _, rule := range onlyRules {
		deps, ok := all[module+rule.pkg]
		if !ok {
			t.Errorf("the rule about %s is about no package", rule.pkg)
		}
		for _, d := range deps {
			rest, own := strings.CutPrefix(d, module)
			if own && !slices.Contains(rule.only, rest) {
				t.Errorf("%s depends on %s: %s", rule.pkg, rest, rule.why)
			}
		}
	}
}

func TestImportRules(t *testing.T) {
	for pkg, deps := range dependencies(t) {
		for _, rule := range importRules {
			if !below(pkg, module+rule.from) {
				continue
			}
			what := rule.what
			if strings.HasPrefix(what, "internal/") {
				what = module + what
			}
			for _, d := range deps {
				if d != pkg && below(d, what) {
					t.Errorf("%s depends on %s: %s", strings.TrimPrefix(pkg, module), d, rule.why)
				}
			}
		}
	}
}

// TestImportRulesHaveSubjects fails when a rule is about a package that is gone.
func TestImportRulesHaveSubjects(t *testing.T) {
	all := dependencies(t)
	for _, rule := range importRules {
		found := false
		for pkg := range all {
			found = found || below(pkg, module+rule.from)
		}
		if !found {
			t.Errorf("the rule about %s is about no package", rule.from)
		}
	}
}

func below(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, strings.TrimSuffix(folder, "/")+"/")
}

// dependencies of each package of the module, without its tests.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[0]] = fields[1:]
	}
	return all
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(filepath.Dir(dir))
}

// lineRules: what no line of Go code of the module may have.
var lineRules = []struct {
	pattern *regexp.Regexp
	tests   bool // also in tests
	why     string
}{
	{regexp.MustCompile(`\btime\.Sleep\(`), true, "wait for a condition instead"},
	{regexp.MustCompile(`stretchr/testify`), true, "go-cmp and the standard library are enough"},
	{regexp.MustCompile(`\bslog\.(Info|Warn|Error|Debug|Default)\(`), false, "the logger is handed in"},
	{regexp.MustCompile(`\bnet\.ParseIP\(|\bnet\.ParseCIDR\(`), true, "net/netip parses addresses"},
	{regexp.MustCompile(`\bpanic\(`), false, "errors are returned"},
}

// allowed are the exceptions, each with its reason. An exception that is not needed
// any more fails.
var allowed = map[string]string{}

func TestLineRules(t *testing.T) {
	used := map[string]bool{}
	eachGoFile(t, func(path string, src string) {
		test := strings.HasSuffix(path, "_test.go")
		if strings.HasPrefix(path, "internal/houserules/") {
			return
		}
		for i, line := range strings.Split(src, "\n") {
			for _, rule := range lineRules {
				if test && !rule.tests || !rule.pattern.MatchString(line) {
					continue
				}
				key := path + ": " + strings.TrimSpace(line)
				if _, ok := allowed[key]; ok {
					used[key] = true
					continue
				}
				t.Errorf("%s:%d: %s (%s)", path, i+1, strings.TrimSpace(line), rule.why)
			}
		}
	})
	for key := range allowed {
		if !used[key] {
			t.Errorf("the exception %q is not needed any more", key)
		}
	}
}

const maxFileLines = 600

func TestFilesAreShort(t *testing.T) {
	eachGoFile(t, func(path, src string) {
		if n := strings.Count(src, "\n"); n > maxFileLines && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines: is it still one idea?", path, n)
		}
	})
}

// TestPackagesSayWhatTheyAre: every package has a doc comment.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	documented := map[string]bool{}
	eachGoFile(t, func(path, src string) {
		if strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "internal/houserules/") {
			return
		}
		dir := filepath.Dir(path)
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		documented[dir] = documented[dir] || f.Doc != nil
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

// machinePaths must never be committed.
var machinePaths = regexp.MustCompile(strings.Join([]string{
	`(^|[^A-Za-z0-9_.])/(wo` + `rk|fa` + `rm)/`, `/tmp/bash` + `_jobs`,
	`proxy\.golang\.` + `org`, `deb\.debian\.` + `org`, `\.\./sha` + `red`,
}, "|"))

func TestNoPathOfAMachine(t *testing.T) {
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if filepath.Base(path) == "go.sum" || strings.HasPrefix(path, "internal/houserules/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			continue // deleted, not committed yet
		}
		for i, line := range strings.Split(string(data), "\n") {
			if machinePaths.MatchString(line) {
				t.Errorf("%s:%d names a path or host that must not be committed: %s", path, i+1, line)
			}
		}
	}
}

func eachGoFile(t *testing.T, f func(path, src string)) {
	t.Helper()
	base := root(t)
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != base || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		f(rel, string(src))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
