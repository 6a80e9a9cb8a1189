package standalone

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/egret-mesh/egret/internal/control/source"
)

// guard keeps the command from the policy that governs it.
type guard struct {
	mu      sync.Mutex
	folders []string // that the command cannot write
}

// protect says what the command must not write: the policy, and the folders of single
// files (an editor replaces files, and the new one must be protected too), except
// folders that the command needs.
func (g *guard) protect(places []source.Protected, dir, home string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, p := range places {
		if p.Parent && needed(p.Path, dir, home) {
			continue
		}
		out = append(out, p.Path)
		if p.Directory {
			g.folders = append(g.folders, p.Path)
		}
	}
	return out
}

// trusted says whether a file is where the command cannot write.
func (g *guard) trusted(path string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.folders {
		if within(path, f) {
			return true
		}
	}
	return false
}

// needed says whether a folder is one that the command should be able to write although
// a file of the policy lies in it: its working folder or one above that, the home
// folder, the folders for temporary files.
func needed(folder, dir, home string) bool {
	for _, d := range []string{dir, home, "/tmp", "/var/tmp", "/dev/shm"} {
		if d != "" && within(d, folder) {
			return true
		}
	}
	return false
}

// within reports whether path is folder or lies below it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// refuseHardLinks refuses policy that has a second name, by which the command could
// write it.
func refuseHardLinks(files *source.Watcher) error {
	var errs []error
	for _, path := range files.HardLinked() {
		errs = append(errs, fmt.Errorf("%s has more than one hard link: the command could change it under its other name; make it a file of its own (cp)", path))
	}
	return errors.Join(errs...)
}
