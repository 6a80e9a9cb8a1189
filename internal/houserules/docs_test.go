package houserules

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named are the tests and scenarios that a document names as what shows a promise.
var named = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*|[a-z0-9_]+\\.txtar)`")

// TestDocumentsNameTests: what a document says that a test shows, a test of that name shows.
func TestDocumentsNameTests(t *testing.T) {
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	eachGoFile(t, func(path, src string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(src, -1) {
				there[m[1]] = true
			}
		}
	})
	scripts, err := filepath.Glob(filepath.Join(root(t), "internal/scenario/testdata/*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range scripts {
		there[filepath.Base(path)] = true
	}
	found := 0
	eachDocument(t, func(path, text string) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if found++; !there[m[1]] {
				t.Errorf("%s names %s, and there is no such test", path, m[1])
			}
		}
	})
	if found < 50 {
		t.Errorf("only %d tests are named", found)
	}
}

// TestArchitectureHasAllPackages: the page that is to be read first has a line for each
// package, or for the one that it is below of, and none for what is gone.
func TestArchitectureHasAllPackages(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	var folders []string // the line's in the tree, and those that it is below of
	for _, m := range regexp.MustCompile(`(?m)^((?:  )*)([a-z0-9]+)/(?: |$)`).FindAllStringSubmatch(string(text), -1) {
		if depth := len(m[1]) / 2; depth <= len(folders) {
			folders = append(folders[:depth], m[2])
			said[strings.Join(folders, "/")] = true
		}
	}
	for path := range said {
		if _, err := os.Stat(filepath.Join(root(t), path)); err != nil {
			t.Errorf("there is no %s", path)
		}
	}
	for path := range dependencies(t) {
		path = strings.TrimPrefix(path, module)
		if below(path, "internal") && path != "internal/houserules" && !said[path] && (filepath.Dir(path) == "internal" || !said[filepath.Dir(path)]) {
			t.Errorf("there is no line for %s", path)
		}
	}
}

func eachDocument(t *testing.T, f func(path, text string)) {
	t.Helper()
	base := root(t)
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != base || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		f(rel, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
