package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// root is one path that was given, held open.
type root struct {
	path string // as given, for positions
	base string // the file's name in dir; "" when the directory was given
	dir  *os.Root
	self *os.File // dir again, for its descriptor
	pins map[string]*pin
	// empty: there was nothing to read at the last look.
	empty bool
	// first has the file that each name was at first, for Options.Trusted.
	first map[string]identity
}

// pin is the target of a symbolic link that leads out of the directory. It is
// resolved once for each text of the link, and its directory is held open.
type pin struct {
	text string
	base string
	dir  *os.Root
	self *os.File
}

func openRoot(path string) (*root, error) {
	info, err := os.Stat(path)
	var why *fs.PathError
	if errors.As(err, &why) {
		return nil, fmt.Errorf("%s: %w", path, why.Err) // without the system call's name
	}
	if err != nil {
		return nil, err
	}
	r := &root{path: filepath.Clean(path), pins: make(map[string]*pin), first: make(map[string]identity)}
	directory := r.path
	switch {
	case info.IsDir():
	case info.Mode().IsRegular():
		directory, r.base = filepath.Split(r.path)
		if directory == "" {
			directory = "."
		}
	default:
		return nil, fmt.Errorf("%s is neither a file nor a folder; what comes through a pipe or a device cannot be watched", path)
	}
	if r.dir, r.self, err = openDirectory(directory); err != nil {
		return nil, err
	}
	if r.base != "" {
		f, _, err := r.open(r.base)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		return r, f.Close()
	}
	return r, nil
}

func openDirectory(path string) (*os.Root, *os.File, error) {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	self, err := dir.Open(".")
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, self, nil
}

func (r *root) close() error {
	errs := []error{r.dir.Close(), r.self.Close()}
	for _, p := range r.pins {
		errs = append(errs, p.dir.Close(), p.self.Close())
	}
	return errors.Join(errs...)
}

// where is the real path of an open directory now, symbolic links resolved.
func where(self *os.File) (string, error) {
	path, err := os.Readlink(descriptorPath(self))
	return strings.TrimSuffix(path, " (deleted)"), err
}

// descriptorPath leads to the open directory, however it is named now.
func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// names lists what is to be read, sorted, and the folders that are not.
func (r *root) names() (names, folders []string, err error) {
	if r.base != "" {
		return []string{r.base}, nil, nil
	}
	d, err := r.dir.Open(".")
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~"):
		case e.IsDir():
			folders = append(folders, name)
		case slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))):
			names = append(names, name)
		}
	}
	slices.Sort(names)
	slices.Sort(folders)
	return names, folders, nil
}

// display is the path of a file as the user would write it.
func (r *root) display(name string) string {
	if r.base != "" {
		return r.path
	}
	return filepath.Join(r.path, name)
}

// open opens a regular file of the root through the descriptor. The pin is not nil
// when the name is a link that leads out of the directory.
func (r *root) open(name string) (*os.File, *pin, error) {
	f, err := openRegular(r.dir, name)
	if err == nil || errors.Is(err, errNotRegular) {
		return f, nil, err
	}
	info, statErr := r.dir.Lstat(name)
	if statErr != nil || info.Mode().Type() != fs.ModeSymlink {
		return nil, nil, err
	}
	p, err := r.pin(name)
	if err != nil {
		return nil, nil, err
	}
	f, err = openRegular(p.dir, p.base)
	return f, p, err
}

// pin resolves a link that leads out of the directory.
func (r *root) pin(name string) (*pin, error) {
	text, err := r.dir.Readlink(name)
	if err != nil {
		return nil, err
	}
	old := r.pins[name]
	if old != nil && old.text == text {
		return old, nil
	}
	here, err := where(r.self)
	if err != nil {
		return nil, err
	}
	target, err := filepath.EvalSymlinks(filepath.Join(here, name))
	if err != nil {
		return nil, err
	}
	p := &pin{text: text, base: filepath.Base(target)}
	if p.dir, p.self, err = openDirectory(filepath.Dir(target)); err != nil {
		return nil, err
	}
	if old != nil {
		_ = errors.Join(old.dir.Close(), old.self.Close())
	}
	r.pins[name] = p
	return p, nil
}

// unpin lets go of the targets of links that are not there any more.
func (r *root) unpin(names []string) {
	for name, p := range r.pins {
		info, err := r.dir.Lstat(name)
		if err == nil && info.Mode().Type() == fs.ModeSymlink && slices.Contains(names, name) {
			continue
		}
		_ = errors.Join(p.dir.Close(), p.self.Close())
		delete(r.pins, name)
	}
}

var errNotRegular = errors.New("not a regular file")

// openRegular never waits: opening a FIFO for reading would.
func openRegular(dir *os.Root, name string) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q: %w", name, errNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// identity says whether a file is the one that was read, unchanged.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identify(info fs.FileInfo) (identity, *syscall.Stat_t) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, &syscall.Stat_t{}
	}
	return identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, st
}
