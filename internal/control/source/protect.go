package source

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Protected is a place that whoever the objects govern must not be able to write.
type Protected struct {
	Path      string // absolute, symbolic links resolved, as it is named now
	Directory bool
	// Parent: the directory is here only because a file that is read lies in it, or
	// a link to one. Write-protecting the file alone holds until the file is
	// replaced by renaming; then the new file is not protected, unless the
	// directory is.
	Parent bool
}

// Protect lists the places to write-protect as of the last look at the files. What
// lies inside a directory that was given has no entry of its own.
func (s *Watcher) Protect() []Protected {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.protect)
}

// HardLinked lists, by resolved path, the files that have further names through
// which this user could change them. No write-protection of paths helps against that.
func (s *Watcher) HardLinked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

// protectedSet collects places: the value is whether a directory is only a Parent.
type protectedSet struct {
	directories map[string]bool
	files       map[string]bool
}

func (p *protectedSet) directory(self *os.File, parent bool) {
	path, err := where(self)
	if err != nil {
		return
	}
	if p.directories == nil {
		p.directories = make(map[string]bool)
	}
	known, ok := p.directories[path]
	p.directories[path] = parent && (known || !ok)
}

func (p *protectedSet) file(f *os.File, target *pin) {
	path, err := where(f)
	if err != nil {
		return
	}
	if p.files == nil {
		p.files = make(map[string]bool)
	}
	p.files[path] = true
	if target != nil {
		p.directory(target.self, true)
	}
}

func (p *protectedSet) sorted() []Protected {
	var out []Protected
	for path, parent := range p.directories {
		if !p.inside(path) {
			out = append(out, Protected{Path: path, Directory: true, Parent: parent})
		}
	}
	for path := range p.files {
		if !p.inside(path) {
			out = append(out, Protected{Path: path})
		}
	}
	slices.SortFunc(out, func(a, b Protected) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// inside reports whether path lies below a directory that is protected as a whole.
func (p *protectedSet) inside(path string) bool {
	for dir, parent := range p.directories {
		if !parent && dir != path && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+string(filepath.Separator)) {
			return true
		}
	}
	return false
}
