package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry is the YAML of a ServiceEntry.
func entry(name, host string) string {
	return fmt.Sprintf("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\nspec:\n  hosts: [%s]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n", name, host)
}

// tempDir is a new directory, named without symbolic links.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reader opens paths without watching them, so that tests say when to look.
func reader(t *testing.T, o Options, paths ...string) *Watcher {
	t.Helper()
	s, err := open(paths, o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// hosts are the hosts in force, as "name=host", sorted.
func hosts(s *State) []string {
	var out []string
	for _, e := range s.Objects.ServiceEntries {
		out = append(out, e.Name+"="+strings.Join(e.Spec.Hosts, ","))
	}
	slices.Sort(out)
	return out
}

func codes(s *State) []string {
	var out []string
	for _, p := range s.Problems {
		out = append(out, p.Code)
	}
	return out
}

func check(t *testing.T, s *Watcher, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, hosts(s.Current())); diff != "" {
		t.Errorf("hosts in force (-want +got):\n%s\nproblems: %v", diff, s.Current().Problems)
	}
}

func checkCodes(t *testing.T, s *Watcher, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, codes(s.Current())); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, s.Current().Problems)
	}
}

func TestRead(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/policy/b.yaml", entry("b", "b.example.com"))
	write(t, dir+"/policy/a.yml", entry("a", "a.example.com")+entry("a2", "a2.example.com"))
	write(t, dir+"/policy/c.json", `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}`)
	for _, ignored := range []string{".hidden.yaml", "b.yaml~", "#b.yaml#", ".b.yaml.swp", "README.md"} {
		write(t, dir+"/policy/"+ignored, "not: [yaml")
	}
	write(t, dir+"/policy/sub/x.yaml", entry("x", "x.example.com"))
	write(t, dir+"/single", entry("single", "single.example.com"))
	must(t, syscall.Mkfifo(dir+"/policy/fifo.yaml", 0o600))

	s := reader(t, Options{}, dir+"/single", dir+"/policy", dir+"/policy/b.yaml")
	check(t, s, "a2=a2.example.com", "a=a.example.com", "b=b.example.com", "single=single.example.com")
	checkCodes(t, s, CodeUnreadable, CodeSkipped) // the FIFO, the folder
	var order []string
	for _, e := range s.Current().Objects.ServiceEntries {
		order = append(order, fmt.Sprintf("%s:%d", e.Name, e.Order))
	}
	if diff := cmp.Diff([]string{"a:0", "a2:1", "b:2", "single:4"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if e := s.Current().Objects.ServiceEntries[0]; e.File != dir+"/policy/a.yml" || e.LineOf("spec.hosts") != 6 {
		t.Errorf("position: %s, hosts on line %d", e.Position, e.LineOf("spec.hosts"))
	}
}

func TestMissingPath(t *testing.T) {
	dir := tempDir(t)
	for _, path := range []string{dir + "/none.yaml", "/dev/null"} {
		if _, _, err := Read([]string{dir, path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestNothingNewIsNotPublished(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/a.yaml", entry("a", "a.example.com"))
	s := reader(t, Options{}, dir)
	s.Reload()
	write(t, dir+"/a.yaml", entry("a", "a.example.com")) // the same again
	s.Reload()
	if got := s.Current().Sequence; got != 1 {
		t.Errorf("sequence %d after nothing changed", got)
	}
	write(t, dir+"/a.yaml", entry("a", "b.example.com"))
	s.Reload()
	if got := s.Current().Sequence; got != 2 {
		t.Errorf("sequence %d after a change", got)
	}
}

func TestLastGood(t *testing.T) {
	a, b := entry("a", "a.example.com"), entry("b", "b.example.com")
	aBad := strings.Replace(a, "hosts:", "hsts:", 1)
	aNew := entry("a", "new.example.com")
	syntax := "---\nx: [\n"
	tests := map[string]struct {
		then  string
		want  []string
		codes []string
	}{
		"object with an error":       {aBad + b, []string{"a=a.example.com", "b=b.example.com"}, []string{"unknown_field"}},
		"other changes still taken":  {aBad + entry("b", "b2.example.com"), []string{"a=a.example.com", "b=b2.example.com"}, []string{"unknown_field"}},
		"other deleted":              {aBad, []string{"a=a.example.com"}, []string{"unknown_field"}},
		"new object with an error":   {b + strings.Replace(aBad, "name: a", "name: c", 1), []string{"b=b.example.com"}, []string{"unknown_field"}},
		"deleted":                    {b, []string{"b=b.example.com"}, nil},
		"all deleted":                {"", nil, nil},
		"syntax error":               {aNew + syntax, []string{"a=new.example.com", "b=b.example.com"}, []string{"yaml_syntax"}},
		"only a syntax error":        {syntax, []string{"a=a.example.com", "b=b.example.com"}, []string{"yaml_syntax"}},
		"kind misspelled":            {strings.Replace(a, "ServiceEntry", "ServiceEntri", 1) + b, []string{"a=a.example.com", "b=b.example.com"}, []string{"unknown_kind"}},
		"version misspelled":         {strings.Replace(a, "io/v1", "io/v7", 1) + b, []string{"a=a.example.com", "b=b.example.com"}, []string{"unknown_kind"}},
		"name missing":               {strings.Replace(a, "{name: a}", "{}", 1) + b, []string{"a=a.example.com", "b=b.example.com"}, []string{"missing_field"}},
		"invalid value":              {strings.Replace(a, "number: 80", "number: 0", 1) + b, []string{"a=a.example.com", "b=b.example.com"}, []string{"invalid_port"}},
		"duplicate keeps the first":  {a + b + entry("a", "c.example.com"), []string{"a=a.example.com", "b=b.example.com"}, []string{"duplicate_object"}},
		"nothing but the bad object": {aBad + syntax, []string{"a=a.example.com", "b=b.example.com"}, []string{"unknown_field", "yaml_syntax"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := tempDir(t) + "/f.yaml"
			write(t, path, a+b)
			s := reader(t, Options{}, path)
			check(t, s, "a=a.example.com", "b=b.example.com")
			checkCodes(t, s)
			write(t, path, tt.then)
			s.Reload()
			check(t, s, tt.want...)
			checkCodes(t, s, tt.codes...)
			if name == "object with an error" && !strings.HasSuffix(s.Current().Problems[0].Message, staysInForce) {
				t.Errorf("message: %s", s.Current().Problems[0])
			}
			write(t, path, aNew)
			s.Reload()
			check(t, s, "a=new.example.com")
			checkCodes(t, s)
		})
	}
}

func TestDuplicateAcrossFiles(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/1.yaml", entry("a", "first.example.com"))
	write(t, dir+"/2.yaml", entry("b", "b.example.com")+entry("a", "second.example.com"))
	s := reader(t, Options{}, dir)
	check(t, s, "a=first.example.com", "b=b.example.com")
	p := s.Current().Problems
	if len(p) != 1 || p[0].Code != istioapi.CodeDuplicateObject || p[0].File != dir+"/2.yaml" || !strings.Contains(p[0].Message, dir+"/1.yaml:2") {
		t.Errorf("problems: %v", p)
	}
	must(t, os.Remove(dir+"/1.yaml"))
	s.Reload()
	check(t, s, "a=second.example.com", "b=b.example.com")
	checkCodes(t, s)
}

func TestRemovedAndUnreadable(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/d/a.yaml", entry("a", "a.example.com"))
	write(t, dir+"/b.yaml", entry("b", "b.example.com"))
	s := reader(t, Options{}, dir+"/d", dir+"/b.yaml")
	must(t, os.Remove(dir+"/b.yaml"))
	s.Reload()
	check(t, s, "a=a.example.com")
	checkCodes(t, s, CodeGone)
	write(t, dir+"/b.yaml", entry("b", "again.example.com"))
	must(t, os.Remove(dir+"/d/a.yaml"))
	must(t, os.Mkdir(dir+"/d/a.yaml", 0o755))
	s.Reload()
	check(t, s, "b=again.example.com")
	checkCodes(t, s, CodeEmpty, CodeSkipped)
	must(t, os.RemoveAll(dir+"/d"))
	write(t, dir+"/d/evil.yaml", entry("evil", "evil.example.com"))
	s.Reload()
	check(t, s, "b=again.example.com")
	checkCodes(t, s, CodeGone)
	if os.Geteuid() == 0 {
		return // root reads everything
	}
	must(t, os.Chmod(dir+"/b.yaml", 0))
	s.Reload()
	check(t, s, "b=again.example.com")
	checkCodes(t, s, CodeUnreadable, CodeGone) // by path
}

// TestFolderWithNothingToRead: what was meant may be in a folder below.
func TestFolderWithNothingToRead(t *testing.T) {
	dir := tempDir(t)
	for _, d := range []string{"empty", "one/team", "two/a", "two/b"} {
		must(t, os.MkdirAll(dir+"/"+d, 0o755))
	}
	for folder, want := range map[string]string{
		"empty": "file in this folder",
		"one":   "give it as a path of its own: " + dir + "/one/team",
		"two":   "the 2 folders in it are not read, give each as a path of its own: " + dir + "/two/a, ...",
	} {
		s := reader(t, Options{}, dir+"/"+folder)
		problems := slices.DeleteFunc(slices.Clone(s.Current().Problems), func(p istioapi.Problem) bool { return p.Code == CodeSkipped })
		if len(problems) != 1 || problems[0].Code != CodeEmpty || problems[0].Severity != istioapi.Warning || !strings.HasSuffix(problems[0].Message, want) {
			t.Errorf("%s: problems %v, want one that ends with %q", folder, problems, want)
		}
	}
}

// TestRemovedFolderIsNoticed: it is held open, so its removal is not notified.
func TestRemovedFolderIsNoticed(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/d/a.yaml", entry("a", "a.example.com"))
	s, err := Files([]string{dir + "/d"}, Options{Poll: 20 * time.Millisecond})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	states, unsubscribe := s.Subscribe()
	defer unsubscribe()
	must(t, os.RemoveAll(dir+"/d"))
	deadline := time.After(20 * time.Second)
	for {
		select {
		case state := <-states:
			if slices.Equal(codes(state), []string{CodeGone}) {
				return
			}
		case <-deadline:
			t.Fatalf("not told: %v", s.Current().Problems)
		}
	}
}

// TestPathsThatCannotBeOpened are all named, without the words of system calls.
func TestPathsThatCannotBeOpened(t *testing.T) {
	dir := tempDir(t)
	_, _, err := Read([]string{dir + "/one", dir, dir + "/two.yaml", "/dev/null"})
	want := dir + "/one: no such file or directory; " + dir + "/two.yaml: no such file or directory; /dev/null is neither a file nor a folder"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestParentRenamed shows that what was opened is what is read.
func TestParentRenamed(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/site/policy/a.yaml", entry("a", "a.example.com"))
	write(t, dir+"/site/single.yaml", entry("s", "s.example.com"))
	s := reader(t, Options{}, dir+"/site/policy", dir+"/site/single.yaml")
	must(t, os.Rename(dir+"/site", dir+"/away"))
	write(t, dir+"/site/policy/a.yaml", entry("a", "evil.example.com"))
	write(t, dir+"/site/single.yaml", entry("s", "evil.example.com"))
	s.Reload()
	check(t, s, "a=a.example.com", "s=s.example.com")
	write(t, dir+"/away/policy/a.yaml", entry("a", "good.example.com"))
	s.Reload()
	check(t, s, "a=good.example.com", "s=s.example.com")
	want := []Protected{{Path: dir + "/away", Directory: true, Parent: true}, {Path: dir + "/away/policy", Directory: true}, {Path: dir + "/away/single.yaml"}}
	if diff := cmp.Diff(want, s.Protect()); diff != "" {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
}

func TestSymlinks(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/common/a.yaml", entry("a", "a.example.com"))
	write(t, dir+"/other/a.yaml", entry("a", "other.example.com"))
	must(t, os.MkdirAll(dir+"/policy", 0o755))
	must(t, os.Symlink("../common/a.yaml", dir+"/policy/a.yaml"))
	must(t, os.Symlink("policy", dir+"/link"))
	must(t, os.Symlink("nowhere", dir+"/policy/dangling.yaml"))
	s := reader(t, Options{}, dir+"/link")
	check(t, s, "a=a.example.com")
	want := []Protected{
		{Path: dir + "/common", Directory: true, Parent: true}, {Path: dir + "/common/a.yaml"},
		{Path: dir + "/policy", Directory: true},
	}
	if diff := cmp.Diff(want, s.Protect()); diff != "" {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
	// The link stays: its target is where it was, however the folder is named.
	must(t, os.Rename(dir+"/common", dir+"/away"))
	write(t, dir+"/common/a.yaml", entry("a", "evil.example.com"))
	s.Reload()
	check(t, s, "a=a.example.com")
	// The link changes.
	must(t, os.Symlink("../other/a.yaml", dir+"/new"))
	must(t, os.Rename(dir+"/new", dir+"/policy/a.yaml"))
	s.Reload()
	check(t, s, "a=other.example.com")
	// It becomes a file.
	write(t, dir+"/plain", entry("a", "plain.example.com"))
	must(t, os.Rename(dir+"/plain", dir+"/policy/a.yaml"))
	s.Reload()
	check(t, s, "a=plain.example.com")
	if diff := cmp.Diff([]Protected{{Path: dir + "/policy", Directory: true}}, s.Protect()); diff != "" {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
}

func TestReplacedFilesAreTrustedOrNot(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/f.yaml", entry("f", "f.example.com"))
	write(t, dir+"/d/d.yaml", entry("d", "d.example.com"))
	write(t, dir+"/out/x.yaml", entry("x", "x.example.com"))
	must(t, os.Symlink("../out/x.yaml", dir+"/d/x.yaml"))
	write(t, dir+"/safe/s.yaml", entry("s", "s.example.com"))
	trusted := func(path string) bool { return path == dir+"/safe/s.yaml" }
	s := reader(t, Options{Trusted: trusted}, dir+"/f.yaml", dir+"/d", dir+"/safe/s.yaml")
	want := []Protected{
		{Path: dir, Directory: true, Parent: true}, {Path: dir + "/d", Directory: true}, {Path: dir + "/f.yaml"},
		{Path: dir + "/out", Directory: true, Parent: true}, {Path: dir + "/out/x.yaml"},
		{Path: dir + "/safe", Directory: true, Parent: true}, {Path: dir + "/safe/s.yaml"},
	}
	if diff := cmp.Diff(want, s.Protect()); diff != "" {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
	for _, name := range []string{"f.yaml", "d/d.yaml", "out/x.yaml", "safe/s.yaml"} {
		write(t, dir+"/new", entry(strings.TrimSuffix(filepath.Base(name), ".yaml"), "new.example.com"))
		must(t, os.Rename(dir+"/new", dir+"/"+name))
	}
	write(t, dir+"/d/d.yaml", entry("d", "new.example.com"))
	s.Reload()
	check(t, s, "d=new.example.com", "f=f.example.com", "s=new.example.com", "x=x.example.com")
	checkCodes(t, s, CodeUnreadable, CodeUnreadable)
}

func TestHardLinks(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/policy/a.yaml", entry("a", "a.example.com"))
	s := reader(t, Options{}, dir+"/policy")
	if got := s.HardLinked(); len(got) != 0 {
		t.Fatalf("hard linked: %v", got)
	}
	must(t, os.Link(dir+"/policy/a.yaml", dir+"/elsewhere.yaml"))
	s.Reload()
	if diff := cmp.Diff([]string{dir + "/policy/a.yaml"}, s.HardLinked()); diff != "" {
		t.Errorf("hard linked (-want +got):\n%s", diff)
	}
	check(t, s, "a=a.example.com")
	checkCodes(t, s, CodeHardLinked)
}

// watched runs the source and returns a function that waits for hosts.
func watched(t *testing.T, o Options, paths ...string) (*Watcher, func(want ...string)) {
	t.Helper()
	s, err := Files(paths, o)
	must(t, err)
	states, unsubscribe := s.Subscribe()
	t.Cleanup(func() {
		unsubscribe()
		must(t, s.Close())
	})
	return s, func(want ...string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		var got []string
		for {
			select {
			case state := <-states:
				if got = hosts(state); slices.Equal(got, want) {
					return
				}
			case <-deadline:
				t.Fatalf("hosts %v, want %v; problems %v", got, want, s.Current().Problems)
			}
		}
	}
}

func TestWatch(t *testing.T) {
	for name, o := range map[string]Options{"notified": {}, "polled": {NoNotify: true, Poll: 20 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			write(t, dir+"/d/a.yaml", entry("a", "a.example.com"))
			write(t, dir+"/f.yaml", entry("f", "f.example.com"))
			_, wait := watched(t, o, dir+"/d", dir+"/f.yaml")
			wait("a=a.example.com", "f=f.example.com")
			write(t, dir+"/d/a.yaml", entry("a", "a2.example.com"))
			wait("a=a2.example.com", "f=f.example.com")
			write(t, dir+"/new", entry("a", "a3.example.com")) // as editors save
			must(t, os.Rename(dir+"/new", dir+"/d/a.yaml"))
			wait("a=a3.example.com", "f=f.example.com")
			write(t, dir+"/new", entry("f", "f2.example.com"))
			must(t, os.Rename(dir+"/new", dir+"/f.yaml"))
			wait("a=a3.example.com", "f=f2.example.com")
			must(t, os.Remove(dir+"/d/a.yaml"))
			wait("f=f2.example.com")
			must(t, os.Rename(dir+"/d", dir+"/e"))
			write(t, dir+"/e/b.yaml", entry("b", "b.example.com"))
			wait("b=b.example.com", "f=f2.example.com")
			write(t, dir+"/e/b.yaml", entry("b", "b2.example.com"))
			wait("b=b2.example.com", "f=f2.example.com")
		})
	}
}

// TestWatchConfigMap follows the way the kubelet replaces the files of a volume.
func TestWatchConfigMap(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/..v1/a.yaml", entry("a", "v1.example.com"))
	must(t, os.Symlink("..v1", dir+"/..data"))
	must(t, os.Symlink("..data/a.yaml", dir+"/a.yaml"))
	write(t, dir+"/out/x.yaml", entry("x", "x.example.com"))
	for _, path := range []string{dir, dir + "/a.yaml"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			write(t, dir+"/..v1/a.yaml", entry("a", "v1.example.com"))
			s, wait := watched(t, Options{}, path)
			wait("a=v1.example.com")
			if slices.ContainsFunc(s.Current().Problems, func(p istioapi.Problem) bool { return strings.Contains(p.File, "..") }) {
				t.Errorf("problems: %v", s.Current().Problems)
			}
			write(t, dir+"/..v2/a.yaml", entry("a", "v2.example.com"))
			must(t, os.Symlink("..v2", dir+"/..data_tmp"))
			must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
			wait("a=v2.example.com")
			must(t, os.Symlink("..v1", dir+"/..data_tmp"))
			must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
			wait("a=v1.example.com")
		})
	}
}

func TestWatchLinkTarget(t *testing.T) {
	dir := tempDir(t)
	write(t, dir+"/common/a.yaml", entry("a", "a.example.com"))
	must(t, os.MkdirAll(dir+"/policy", 0o755))
	must(t, os.Symlink(dir+"/common/a.yaml", dir+"/policy/a.yaml"))
	_, wait := watched(t, Options{}, dir+"/policy")
	wait("a=a.example.com")
	write(t, dir+"/common/a.yaml", entry("a", "a2.example.com"))
	wait("a=a2.example.com")
}

func TestSubscribe(t *testing.T) {
	path := tempDir(t) + "/f.yaml"
	write(t, path, entry("a", "a.example.com"))
	s := reader(t, Options{}, path)
	states, cancel := s.Subscribe()
	for i := range 5 {
		write(t, path, entry("a", fmt.Sprintf("a%d.example.com", i)))
		s.Reload()
	}
	if got := <-states; got.Sequence != 6 {
		t.Errorf("a slow reader got state %d", got.Sequence)
	}
	cancel()
	cancel()
	if _, open := <-states; open {
		t.Error("the channel is open after cancel")
	}
	write(t, path, entry("a", "last.example.com"))
	s.Reload()
	check(t, s, "a=last.example.com")
}
