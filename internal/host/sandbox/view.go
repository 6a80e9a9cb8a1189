package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// kind of a file, as far as the mount plan cares.
type kind int

const (
	absent kind = iota
	folder
	file
	link
	socket
	device
)

// view is how the mount plan looks at the file system.
type view interface {
	kind(path string) kind                // of path itself, links not followed; absent if unreachable
	resolve(path string) (string, error)  // to an absolute path without links
	readlink(path string) (string, error) //
	glob(pattern string) []string         //
	same(a, b string) bool                // both are the same file
	writable(folder string) bool          // by the user
}

// machine is the view of the machine egret runs on.
type machine struct{}

func (machine) kind(path string) kind {
	info, err := os.Lstat(path)
	if err != nil {
		return absent
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return folder
	case mode&fs.ModeSymlink != 0:
		return link
	case mode&fs.ModeSocket != 0:
		return socket
	case mode&fs.ModeDevice != 0:
		return device
	}
	return file
}

func (machine) resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func (machine) readlink(path string) (string, error) { return os.Readlink(path) }

func (machine) glob(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	return found
}

func (machine) same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (machine) writable(folder string) bool { return unix.Access(folder, unix.W_OK) == nil }
