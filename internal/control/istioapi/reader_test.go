package istioapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

func entryDocument(name string) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s}
spec:
  hosts: [%s.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
`, name, name)
}

// checkReader decodes versions of a file one after the other, and compares with what a
// decoder says that knows nothing of the versions before.
func checkReader(t *testing.T, versions ...string) {
	t.Helper()
	var r Reader
	for i, text := range versions {
		want, wantProblems := Decode("f.yaml", []byte(text))
		got, gotProblems := r.Decode("f.yaml", []byte(text))
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("version %d: objects (-from nothing +after another):\n%s", i, diff)
		}
		if diff := cmp.Diff(wantProblems, gotProblems); diff != "" {
			t.Fatalf("version %d: problems (-from nothing +after another):\n%s", i, diff)
		}
	}
}

func TestReaderTellsWhatDecodeTells(t *testing.T) {
	a, b, c := entryDocument("a"), entryDocument("b"), entryDocument("c")
	list := `---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: one}}
- {apiVersion: v1, kind: Namespace, metadata: {name: two}}
`
	mesh := `---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: ""
`
	bad := strings.Replace(b, "resolution: DNS", "resolution: WRONG", 1)
	checkReader(t, a, a+b, "# a comment\n\n"+a+b, a+c+b, b+a, a+b, a+a, a+bad+c, a+b+c, a+"--- {{{\n"+c, list+a, a+list,
		b+list+mesh, mesh+list, strings.ReplaceAll(mesh, `""`, "/dev/stdout")+a, "", a)
}

func TestReaderTellsProblemsBeyondTheLimit(t *testing.T) {
	many := strings.Repeat(strings.Replace(entryDocument("x"), "DNS", "WRONG", 1), maxProblems+1)
	last := strings.Replace(entryDocument("last"), "DNS", "WRONG", 1)
	checkReader(t, many+last, last)
}

func TestUnchangedDocumentsAreNotParsedAgain(t *testing.T) {
	var r Reader
	first, _ := r.Decode("f.yaml", []byte(entryDocument("a")+entryDocument("b")))
	second, _ := r.Decode("f.yaml", []byte(entryDocument("a")+"---\n"+entryDocument("c")+entryDocument("b")))
	if len(second.ServiceEntries) != 3 {
		t.Fatalf("%d objects", len(second.ServiceEntries))
	}
	if second.ServiceEntries[0] != first.ServiceEntries[0] {
		t.Error("an object that did not change, nor move, is another one")
	}
	before, after := first.ServiceEntries[1], second.ServiceEntries[2]
	if before.Spec != after.Spec || before.Name != "b" || after.Name != "b" {
		t.Error("the spec of an object that moved was parsed again")
	}
	if before.Line == after.Line || before.Order == after.Order {
		t.Error("the object has not moved")
	}
	if other, _ := r.Decode("g.yaml", []byte(entryDocument("a"))); other.ServiceEntries[0].File != "g.yaml" {
		t.Error("an object of another file was given")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(entryDocument("a")+entryDocument("b"), entryDocument("b")+entryDocument("a"))
	f.Add("a: &x [1]\n---\nb: *x\n", "---\nb: *x\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		if len(before)+len(after) > 1<<16 {
			return
		}
		checkReader(t, before, after, before)
	})
}
