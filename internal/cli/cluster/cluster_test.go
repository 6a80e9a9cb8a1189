package cluster

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/cli"
)

// run runs a command line with an empty home, and gives what it prints.
func run(t *testing.T, name, input string, args ...string) (out, errs string, code int) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	if os.Getenv("KUBECONFIG") != "" {
		t.Setenv("KUBECONFIG", "")
	}
	var files []*os.File
	for _, n := range []string{"in", "out", "err"} {
		f, err := os.Create(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if _, err := files[0].WriteString(input); err != nil {
		t.Fatal(err)
	}
	if _, err := files[0].Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	code = Main(name, args, cli.Streams{In: files[0], Out: files[1], Err: files[2]})
	text := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return text(files[1]), text(files[2]), code
}

func TestCommands(t *testing.T) {
	unreachable := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(unreachable, []byte(`{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}],
contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	operator := "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: minimal, hub: from.stdin}\n"
	for _, c := range []struct {
		line, in  string
		out, errs string
		code      int
		istioctl  bool
	}{
		{line: "version", out: "client version: ", errs: "no cluster: there is no kubeconfig"},
		{line: "version", out: "client version: ", errs: "istioctl: the cluster's", istioctl: true},
		{line: "version --remote=false -o json", out: `"clientVersion"`},
		{line: "install -y", errs: "no cluster: there is no kubeconfig", code: 1},
		{line: "install -y -c " + unreachable, errs: "the API server https://127.0.0.1:1 cannot be reached", code: 1},
		{line: "install -y --context b -c " + unreachable, errs: `"b" does not exist`, code: 1},
		{line: "install -y --set profil=demo", errs: `profil is not known; did you mean "profile"?`, code: 1},
		{line: "install --sett a=b", errs: "unknown flag: --sett (see istioctl install --help)", code: 1, istioctl: true},
		{line: "install -f /does/not/exist", errs: "no such file", code: 1},
		{line: "manifest generate -f -", in: operator, out: "from.stdin/pilot:"},
		{line: "manifest generate -f -", in: "kind: Pod", errs: "wanted is an IstioOperator", code: 1},
		{line: "uninstall", errs: "say --purge or --revision NAME", code: 1},
		{line: "proxy-config routes", errs: "wants a kind of resource and a pod", code: 1},
		{line: "explain web", errs: "wants a pod and a URL or HOST:PORT", code: 1},
		{line: "explain web nowhere", errs: "neither a URL", code: 1},
		{line: "explain web http://example.com -o yaml", errs: "unknown output format", code: 1},
		{line: "explain web http://example.com -c " + unreachable, errs: "cannot be reached", code: 1},
		{line: "proxy-status -c " + unreachable, errs: "cannot be reached", code: 1},
		{line: "install --help", out: "istioctl install --set profile=demo", istioctl: true},
	} {
		name := "egret"
		if c.istioctl {
			name = "istioctl"
		}
		out, errs, code := run(t, name, c.in, strings.Fields(c.line)...)
		if !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || code != c.code {
			t.Errorf("%s %s: exit status %d, stdout %.200q, stderr %q", name, c.line, code, out, errs)
		}
	}
}
