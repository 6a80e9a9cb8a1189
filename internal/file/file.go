// Package file reads files that may change while a program runs: certificates with their
// keys, resolv.conf, hosts.
//
// It must not watch anything or run by itself: a file is looked at when it is asked for.
package file

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// Max bounds what is read of a file, in bytes.
const Max = 16 << 20

// Cached is a parsed file, read again when it was changed or replaced.
type Cached[T any] struct {
	path  string
	parse func([]byte) (T, error)

	mu    sync.Mutex
	info  os.FileInfo // of the file that value was parsed from; nil: none yet
	value T
}

// New makes a Cached of a path. Nothing is opened before Get.
func New[T any](path string, parse func([]byte) (T, error)) *Cached[T] {
	return &Cached[T]{path: path, parse: parse}
}

// Get returns the file's content. Its errors name the path.
func (f *Cached[T]) Get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var zero T
	info, err := os.Stat(f.path)
	if err != nil {
		return zero, err
	}
	if f.info != nil && Same(info, f.info) {
		return f.value, nil
	}
	data, err := Read(f.path)
	if err != nil {
		return zero, err
	}
	value, err := f.parse(data)
	if err != nil {
		return zero, fmt.Errorf("%q: %w", f.path, err)
	}
	f.value, f.info = value, info
	return value, nil
}

// Same reports whether two looks at a path found the same file, unchanged.
func Same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Read returns the bytes of a file of at most Max bytes.
func Read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, Max+1))
	if err == nil && len(data) > Max {
		err = fmt.Errorf("%q is larger than %d bytes", path, Max)
	}
	return data, err
}
