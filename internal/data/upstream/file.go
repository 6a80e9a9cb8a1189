package upstream

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// maxFile bounds what is read of a file, in bytes.
const maxFile = 16 << 20

// cachedFile is a parsed file, read again when it was changed or replaced.
type cachedFile[T any] struct {
	path  string
	parse func([]byte) (T, error)

	mu    sync.Mutex
	info  os.FileInfo // of the file that value was parsed from; nil: none yet
	value T
}

// get returns the file's content. Its errors name the path.
func (f *cachedFile[T]) get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var zero T
	info, err := os.Stat(f.path)
	if err != nil {
		return zero, err
	}
	if f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return f.value, nil
	}
	data, err := readBounded(f.path)
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

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%q is larger than %d bytes", path, maxFile)
	}
	return data, err
}
