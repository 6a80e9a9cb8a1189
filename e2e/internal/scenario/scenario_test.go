package scenario

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/e2e/internal/term"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	sh := term.Shell{Dir: t.TempDir(), Env: os.Environ(), Out: &out}
	long := 20 * time.Second
	for _, c := range []struct {
		name  string
		steps []Step
		err   string // has to be in the error; empty is none
	}{
		{"as expected", []Step{{Run: "echo yes", Want: "^yes"}}, ""},
		{"prints something else", []Step{{Run: "echo no", Want: "yes"}}, "does not print"},
		{"prints what it must not", []Step{{Run: "echo no", Not: "no"}}, "must not"},
		{"fails", []Step{{Run: "exit 1"}}, "exit status 1"},
		{"has to fail", []Step{{Run: "exit 1", Fails: true}}, ""},
		{"has to fail and does not", []Step{{Run: "true", Fails: true}}, "exit status 0"},
		{"comes in time", []Step{{Run: "echo x >> n; wc -l < n", Want: "3", Within: long}}, ""},
		{"comes too late", []Step{{Run: "echo no", Want: "yes", Within: 500 * time.Millisecond}}, "within"},
		{"behind others", []Step{{Run: "until test -e done; do :; done; echo seen", Want: "seen", Behind: true}, {Run: "touch done"}}, ""},
		{"behind others, wrong", []Step{{Run: "echo no", Want: "yes", Behind: true}, {Run: "true"}}, "does not print"},
		{"stops at the first difference", []Step{{Run: "false"}, {Run: "touch never"}}, "exit status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Run(context.Background(), sh, Cluster{}, []Scenario{{Name: c.name, Steps: c.steps, Undo: []string{"touch undone"}}})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.err == "" && got[0].Err != nil:
				t.Errorf("differs: %v", got[0].Err)
			case c.err != "" && (got[0].Err == nil || !strings.Contains(got[0].Err.Error(), c.err)):
				t.Errorf("error is %v, want %q", got[0].Err, c.err)
			}
			if err := os.Remove(sh.Dir + "/undone"); err != nil {
				t.Errorf("what the scenario made was not taken away: %v", err)
			}
		})
	}
	if _, err := os.Stat(sh.Dir + "/never"); err == nil {
		t.Error("a step ran after a difference")
	}
}

// Every file that a scenario applies is there, and every pattern compiles.
func TestAll(t *testing.T) {
	dir := t.TempDir()
	if err := writeObjects(dir, Cluster{}); err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`-f (\S+\.yaml)`)
	seen := map[string]bool{}
	for _, s := range All(Cluster{}) {
		if seen[s.Name] {
			t.Errorf("two scenarios are called %s", s.Name)
		}
		seen[s.Name] = true
		lines := s.Undo
		for _, step := range s.Steps {
			lines = append(lines, step.Run)
			for _, p := range []string{step.Want, step.Not} {
				if _, err := regexp.Compile(p); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
		}
		for _, line := range lines {
			for _, m := range file.FindAllStringSubmatch(line, -1) {
				if _, err := os.Stat(dir + "/" + m[1]); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
		}
	}
}

// On somebody's cluster another host takes the site's place, in objects, commands and
// patterns, and what harms a node does not run.
func TestForeignCluster(t *testing.T) {
	on := Cluster{Foreign: true, Site: "www.example.org", InstallFlags: "--set hub=there"}
	dir := t.TempDir()
	if err := writeObjects(dir, on); err != nil {
		t.Fatal(err)
	}
	object, err := os.ReadFile(dir + "/api.yaml")
	if err != nil || !strings.Contains(string(object), on.Site) {
		t.Errorf("the object is %q, %v", object, err)
	}
	text := ""
	for _, s := range All(on) {
		for _, step := range s.Steps {
			text += step.Run + "\n" + step.Want + "\n"
		}
	}
	for _, want := range []string{"http://www.example.org/", `outbound\|80\|\|www\.example\.org`, "REGISTRY_ONLY -y --set hub=there"} {
		if !strings.Contains(text, want) {
			t.Errorf("no step has %q", want)
		}
	}
	if strings.Contains(text, "api.example") || strings.Contains(text, `api\.example`) {
		t.Error("a step has the simulated site")
	}
	sh := term.Shell{Dir: dir, Env: os.Environ(), Out: &strings.Builder{}}
	got, err := Run(context.Background(), sh, on, []Scenario{{Name: "harm", Node: "stops the node", Steps: []Step{{Run: "touch harmed"}}}})
	if err != nil || len(got) != 1 || got[0].Skipped != "stops the node" || !strings.Contains(Format(got), "harm") {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := os.Stat(dir + "/harmed"); err == nil {
		t.Error("the node is harmed")
	}
}
