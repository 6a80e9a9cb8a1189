package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// What is pushed comes back as files: folders above them, modes, links and contents.
func TestPush(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("code"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRegistry(ln)
	defer r.Close()
	image := Image{
		Name: "some/image:tag", Entrypoint: []string{"/usr/bin/program"}, User: "1337",
		Layers: [][]File{
			{{Path: "/usr/bin/program", Mode: 0o755, From: program}, {Path: "/bin/sh", Link: "/usr/bin/program"}},
			{{Path: "/tmp", Dir: true, Mode: 0o777 | os.ModeSticky}, {Path: "/etc/x", Mode: 0o644, Data: []byte("x")}},
		},
	}
	if err := Push(r.Addr(), image); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(r.Addr()+"/some/image:tag", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := got.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "1337" || !slices.Equal(config.Config.Entrypoint, image.Entrypoint) {
		t.Errorf("config is %+v", config.Config)
	}
	files := map[string]tar.Header{}
	contents := map[string]string{}
	in := tar.NewReader(mutate.Extract(got))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, in); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		files[name], contents[name] = *h, b.String()
	}
	for _, want := range []struct {
		name, content string
		kind          byte
		mode          int64
	}{
		{"usr", "", tar.TypeDir, 0o755},
		{"usr/bin/program", "code", tar.TypeReg, 0o755},
		{"bin/sh", "", tar.TypeSymlink, 0o777},
		{"tmp", "", tar.TypeDir, 0o1777},
		{"etc/x", "x", tar.TypeReg, 0o644},
	} {
		h, ok := files[want.name]
		if !ok || h.Typeflag != want.kind || h.Mode != want.mode || contents[want.name] != want.content {
			t.Errorf("%s: is there %v, kind %q, mode %o, content %q", want.name, ok, h.Typeflag, h.Mode, contents[want.name])
		}
	}
}

func TestParseLDD(t *testing.T) {
	got, err := parseLDD("\tlinux-vdso.so.1 (0x00007ffc)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n")
	if err != nil || !slices.Equal(got, []string{"/lib/libz.so.1", "/lib64/ld-linux-x86-64.so.2"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseLDD("\tlibgone.so.1 => not found\n"); err == nil {
		t.Error("a missing library is no error")
	}
}
