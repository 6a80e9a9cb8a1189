package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/file"
)

// ParsePodInfo reads labels or annotations as Kubernetes' downward API writes them into a
// file: key="quoted value" lines.
func ParsePodInfo(text string) (map[string]string, error) {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		key, quoted, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			continue
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("the value of %q is not quoted: %w", key, err)
		}
		out[key] = value
	}
	return out, nil
}

// podInfo reads a file of the downward API; nil where it does not exist.
func (in *Input) podInfo(name string) (map[string]string, error) {
	path := in.path("etc/istio/pod/" + name)
	text, err := file.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := ParsePodInfo(string(text))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return out, nil
}

// path is a path of the container below Root.
func (in *Input) path(p string) string { return filepath.Join("/", in.Root, p) }
