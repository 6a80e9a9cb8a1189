// Package image builds container images without a container engine, from files, and
// serves them from a registry in memory.
//
// It must not run anything in an image.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one entry of an image.
type File struct {
	// Path is absolute in the image.
	Path string
	// Mode has the permission bits; Dir and Link say what else it may be than a file.
	Mode os.FileMode
	Dir  bool
	Link string
	// From is a file of this machine, Data the content where From is empty.
	From string
	Data []byte
}

// Image is what an image is made of.
type Image struct {
	// Name is the reference without a registry: egret-mesh/pilot:TAG.
	Name       string
	Layers     [][]File
	Entrypoint []string
	Cmd        []string
	Env        []string
	// User is a number, or empty for root.
	User string
}

// Build makes the image.
func (i Image) Build() (v1.Image, error) {
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: i.Entrypoint,
			Cmd:        i.Cmd,
			Env:        append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, i.Env...),
			User:       i.User,
			WorkingDir: "/",
		},
	})
	if err != nil {
		return nil, err
	}
	for _, files := range i.Layers {
		layer, err := layerOf(files)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", i.Name, err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	return img, nil
}

func layerOf(files []File) (v1.Layer, error) {
	var buf bytes.Buffer
	if err := writeTar(&buf, files); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed))
}

// writeTar writes the files with the folders that they need. A path that comes twice
// is the first one.
func writeTar(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	written := map[string]bool{"/": true}
	for _, f := range files {
		name := path.Clean(f.Path)
		for _, dir := range parents(name) {
			if written[dir] {
				continue
			}
			written[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		if written[name] {
			continue
		}
		written[name] = true
		if err := writeFile(w, name[1:], f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return w.Close()
}

func writeFile(w *tar.Writer, name string, f File) error {
	mode := int64(f.Mode.Perm())
	if f.Mode&os.ModeSticky != 0 {
		mode |= 0o1000
	}
	switch {
	case f.Dir:
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	case f.Link != "":
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.Link, Mode: 0o777})
	}
	data := f.Data
	if f.From != "" {
		var err error
		if data, err = os.ReadFile(f.From); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// parents are the folders above a clean absolute path, outermost first.
func parents(name string) []string {
	var out []string
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		out = append(out, dir)
	}
	slices.Reverse(out)
	return out
}

// Programs are files of this machine at the same place in the image, with the shared
// libraries that they need, as ldd says.
func Programs(names ...string) ([]File, error) {
	var out []File
	for _, name := range names {
		libraries, err := sharedLibraries(name)
		if err != nil {
			return nil, err
		}
		for _, from := range append([]string{name}, libraries...) {
			out = append(out, File{Path: from, Mode: 0o755, From: from})
		}
	}
	return out, nil
}

// parseLDD reads the paths of ldd's answer.
func parseLDD(text string) ([]string, error) {
	var out []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, "not found"):
			return nil, fmt.Errorf("a library is missing: %s", strings.TrimSpace(line))
		case len(fields) >= 3 && fields[1] == "=>" && strings.HasPrefix(fields[2], "/"):
			out = append(out, fields[2])
		case len(fields) >= 1 && strings.HasPrefix(fields[0], "/"):
			out = append(out, fields[0])
		}
	}
	return out, nil
}
