package xdsgen

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xdstest"
)

// Whatever objects are accepted, what is made of them is taken: else one object would keep
// a proxy from what all others ask for.
func FuzzAcceptedObjects(f *testing.F) {
	for _, text := range objectFiles(f) {
		f.Add(text)
	}
	services, own := cluster(), sidecarNode
	own.Addresses = parseAddresses("10.244.1.5") // of the Service web
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<14 {
			return
		}
		for _, pods := range []bool{false, true} {
			objects, _ := istioapi.Rules{Pods: pods}.Decode("f.yaml", []byte(text))
			options := mesh.Options{Pods: pods}
			if pods {
				options.BuiltIn = services
			}
			s, _ := mesh.New(objects, options)
			for _, node := range []mesh.Node{own, captured(), gatewayNode} {
				all, err := Generate(s, node)
				if err != nil {
					t.Fatalf("%s: %v", node.ID, err)
				}
				for _, refused := range xdstest.Refused(all) {
					t.Errorf("%s, pods: %v: %s", node.ID, pods, refused)
				}
			}
		}
	})
}

// objectFiles are the texts with Istio's objects that the repository has: whole, and each of
// their documents.
func objectFiles(f *testing.F) (out []string) {
	f.Helper()
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "bin" || d.Name() == "charts") {
			if err == nil && path != "../../.." {
				err = filepath.SkipDir
			}
			return err
		}
		if ext := filepath.Ext(path); ext != ".yaml" && ext != ".txtar" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "istio.io/v1") {
			return err
		}
		for part := range strings.SplitSeq(string(text), "\n-- ") { // a file of a txtar
			if _, after, ok := strings.Cut(part, " --\n"); ok {
				part = after
			}
			if strings.HasPrefix(strings.TrimSpace(part), "apiVersion:") {
				out = append(out, part)
				if documents := strings.Split(part, "\n---\n"); len(documents) > 1 {
					out = append(out, documents...)
				}
			}
		}
		return nil
	})
	if err != nil || len(out) < 20 {
		f.Fatal(len(out), err)
	}
	return out
}
