package standalone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// A stderr that takes nothing holds up nobody, neither while the mesh runs (it would
// keep changes of the policy from taking effect) nor at the end.
func TestVoiceNeverWaits(t *testing.T) {
	reader, stuck := io.Pipe()
	defer func() { _ = reader.Close() }()
	v := newVoice(stuck, false)
	for i := range 3 * maxUnsaid {
		v.say(fmt.Sprint(i), "word")
	}
	if v.unsaid == 0 {
		t.Error("lines wait without bound")
	}
	v.close()
	v.close()
	v.say("late", "word")
}

func TestVoiceSaysEachThingOnce(t *testing.T) {
	var out bytes.Buffer
	v := newVoice(&out, false)
	for range 3 {
		v.say("a", "one")
		v.say("b", "two")
	}
	v.close()
	if out.String() != "egret: one\negret: two\n" {
		t.Errorf("said %q", out.String())
	}
}

func TestVoiceTellsHowMuchWasLost(t *testing.T) {
	reader, writer := io.Pipe()
	v := newVoice(writer, false)
	for i := 0; v.unsaid < 2; i++ {
		v.say(fmt.Sprint(i), "word")
	}
	got := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		got <- string(text)
	}()
	for len(v.lines) > 0 {
		v.say("again", "word") // lost as well, until there is room
	}
	v.say("last", "word")
	v.close()
	_ = writer.Close()
	if text := <-got; !strings.Contains(text, "lines were not written") {
		t.Errorf("said %q", text)
	}
}

// What is wrong with the YAML is told when it comes up, not again while it lasts, and
// that it is mended; when it comes back it is told again.
func TestVoiceFollowsProblems(t *testing.T) {
	problem := func(severity istioapi.Severity, file string, line int) istioapi.Problem {
		return istioapi.Problem{Severity: severity, Code: "c", Position: istioapi.Position{File: file, Line: line}, Message: "m"}
	}
	warning, bad := problem(istioapi.Warning, "w.yaml", 1), problem(istioapi.Error, "b.yaml", 1)
	var out bytes.Buffer
	v := newVoice(&out, false)
	v.problems([]istioapi.Problem{warning, problem(istioapi.Info, "i.yaml", 1)})
	v.problems([]istioapi.Problem{problem(istioapi.Warning, "w.yaml", 9), bad}) // the warning has moved
	v.problems([]istioapi.Problem{bad, bad})
	v.problems(nil)
	v.problems(nil)
	v.problems([]istioapi.Problem{bad})
	v.close()
	want := `egret: w.yaml:1: warning: m [c]
egret: b.yaml:1: error: m [c]
egret: b.yaml: the error is gone; what it says now is in force
egret: b.yaml:1: error: m [c]
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestVoiceTellsFewOfManyProblems(t *testing.T) {
	var many []istioapi.Problem
	for i := range maxTold + 5 {
		many = append(many, istioapi.Problem{Severity: istioapi.Error, Code: "c", Position: istioapi.Position{File: "f", Line: i}})
	}
	var out bytes.Buffer
	v := newVoice(&out, false)
	v.problems(many)
	v.close()
	if n := strings.Count(out.String(), "\n"); n != maxTold+1 || !strings.Contains(out.String(), "egret: 5 more problems") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// What a proxy refuses of its configuration is told with the reason's word.
func TestVoiceTellsRefusals(t *testing.T) {
	var out bytes.Buffer
	v := newVoice(&out, false)
	v.refused("sidecar", errors.New(`route "80": a virtual host has no domains`))
	v.close()
	want := "egret: config_rejected: the sidecar cannot use route \"80\": a virtual host has no domains; what it had before stays in force\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
