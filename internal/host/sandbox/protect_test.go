package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// policy makes a/b/policy with a file x.yaml below a folder that the user can write.
func policy(t *testing.T) (root, folder string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(root, "a", "b", "policy")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "x.yaml"), []byte("policy"), 0o644); err != nil {
		t.Fatal(err)
	}
	return root, folder
}

// intact checks that the policy is as it was.
func intact(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(folder, "x.yaml")); err != nil || string(text) != "policy" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

func TestProtectedFolder(t *testing.T) {
	for _, without := range []bool{false, true} {
		_, folder := policy(t)
		spec := probing(t, "write", folder, filepath.Join(folder, "x.yaml"))
		spec.ReadOnly, spec.withoutFilter = []string{folder}, without
		r := run(t, spec)
		check(t, r, map[string]string{
			"0 write": "EROFS", "0 truncate": "EISDIR", "0 rename": "EBUSY", "0 rename over": "EBUSY|EXDEV|ENOTDIR|EISDIR",
			"0 link": "EXDEV|EPERM", "0 chmod": "EROFS", "0 remove": "EROFS|EBUSY", "0 rename parent": "EBUSY", "0 rename grandparent": "EBUSY",
			"1 write": "EROFS", "1 truncate": "EROFS", "1 rename": "EROFS", "1 rename over": "EROFS",
			"1 link": "EROFS", "1 chmod": "EROFS", "1 remove": "EROFS", "1 rename parent": "EBUSY", "1 rename grandparent": "EBUSY",
		})
		intact(t, folder)
	}
}

func TestProtectedFile(t *testing.T) {
	_, folder := policy(t)
	file := filepath.Join(folder, "x.yaml")
	spec := probing(t, "write", file)
	spec.ReadOnly = []string{file}
	check(t, run(t, spec), map[string]string{
		"0 write": "EROFS", "0 truncate": "EROFS", "0 rename": "EBUSY", "0 rename over": "EBUSY", "0 link": "EXDEV",
		"0 chmod": "EROFS", "0 remove": "EBUSY", "0 rename parent": "EBUSY", "0 rename grandparent": "EBUSY",
	})
	if text, err := os.ReadFile(file); err != nil || string(text) != "policy" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

func TestProtectedThroughWorkingFolder(t *testing.T) {
	_, folder := policy(t)
	t.Chdir(folder)
	spec := probing(t, "write", "x.yaml", "./x.yaml", "../policy/x.yaml", "/proc/self/cwd/x.yaml", "/proc/1/cwd/x.yaml")
	spec.Dir, spec.ReadOnly = "", []string{"."}
	for name, got := range lines(t, run(t, spec)) {
		if got == "ok" {
			t.Errorf("%s: %s", name, got)
		}
	}
	intact(t, folder)
}

func TestProtectionCannotBeUnmounted(t *testing.T) {
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprintf("without filter %v", without), func(t *testing.T) {
			_, folder := policy(t)
			spec := probing(t, "mounts", folder)
			spec.ReadOnly, spec.withoutFilter = []string{folder}, without
			r := run(t, spec)
			for name, got := range lines(t, r) {
				if got == "ok" && name != "nested" {
					t.Errorf("%s: %s", name, got)
				}
			}
			check(t, r, map[string]string{"nested": map[bool]string{false: "EPERM", true: "ok"}[without]})
			intact(t, folder)
		})
	}
}

// A second mount of the same file system, as root may have made it.
func TestProtectedUnderOtherMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	root, folder := policy(t)
	for _, from := range []string{root, folder} {
		other := t.TempDir()
		if err := unix.Mount(from, other, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(other, unix.MNT_DETACH) })
		rel, _ := filepath.Rel(from, folder)
		spec := probing(t, "write", filepath.Join(other, rel, "x.yaml"), filepath.Join(other, rel))
		spec.ReadOnly = []string{folder}
		r := run(t, spec)
		for name, got := range lines(t, r) {
			if got == "ok" {
				t.Errorf("%s: %s\n%s", name, got, r.output)
			}
		}
		intact(t, folder)
		_ = unix.Unmount(other, unix.MNT_DETACH)
	}
}

func TestFolderAboveCannotBeRenamedThroughAFile(t *testing.T) {
	root, folder := policy(t)
	spec := probing(t, "fd-rename", root, "a")
	spec.ReadOnly = []string{folder}
	check(t, run(t, spec), map[string]string{"open": "ok", "rename": "EBUSY"})
}

func TestMissingProtectedPath(t *testing.T) {
	spec := probing(t, "exit", "0")
	spec.ReadOnly = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := Start(t.Context(), spec); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start: %v", err)
	}
}

func TestStandardStreamsThatLeadAround(t *testing.T) {
	_, folder := policy(t)
	open := func(path string) *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream, peer := os.NewFile(uintptr(pair[0]), "stream"), os.NewFile(uintptr(pair[1]), "peer")
	defer func() { _, _ = stream.Close(), peer.Close() }()
	for _, c := range []struct {
		name string
		f    *os.File
		want string
	}{
		{"folder", open(folder), "folder"},
		{"protected file", open(filepath.Join(folder, "x.yaml")), "protected file"},
		{"network socket", socket, "socket"},
		{"connected stream", stream, ""},
		{"other file", open("/etc/passwd"), ""},
	} {
		err := checkStdio("standard input", c.f, []string{folder})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
