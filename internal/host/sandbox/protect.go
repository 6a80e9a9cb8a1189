package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// protect makes the protected paths read-only, under every path that shows them, and
// keeps the folders above them from being renamed: a mount point cannot be renamed or
// removed in its own mount namespace, so each folder above that the user could rename
// is mounted on itself.
func (p *mountPlan) protect() error {
	var paths []string
	for _, r := range p.spec.ReadOnly {
		path, err := p.view.resolve(r)
		if err != nil {
			return fmt.Errorf("protect %q: %w", r, err)
		}
		if path == "/" {
			return fmt.Errorf("protect %q: the whole file system cannot be protected", r)
		}
		paths = append(paths, path)
	}
	for _, path := range outermost(paths) {
		if p.visible(path) {
			p.pinAbove(path)
			p.readOnly(path)
		}
		for _, a := range aliases(p.mounts, path) {
			if p.visible(a.path) && p.view.same(a.path, a.of) {
				p.readOnly(a.path)
			}
		}
	}
	return nil
}

// pinAbove mounts the folders above path on themselves, from the top.
func (p *mountPlan) pinAbove(path string) {
	parent := filepath.Dir(path)
	if parent == "/" {
		return
	}
	p.pinAbove(parent)
	if p.bound[parent] || isMountPoint(p.mounts, parent) || !p.view.writable(filepath.Dir(parent)) {
		return
	}
	p.bound[parent] = true
	p.add(stage.Op{Kind: stage.OpBind, Path: parent, Source: parent})
}

func (p *mountPlan) readOnly(path string) {
	if p.bound[path] {
		return
	}
	p.bound[path] = true
	p.add(
		stage.Op{Kind: stage.OpBind, Path: path, Source: path},
		stage.Op{Kind: stage.OpSet, Path: path, Flags: unix.MOUNT_ATTR_RDONLY})
}

// checkStdio refuses standard streams that are a way around the sandbox: what they
// are was decided outside, with the machine's mounts and network.
func checkStdio(name string, f *os.File, protected []string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fmt.Errorf("%s is a folder, through which the command could reach files outside of the sandbox", name)
	case unix.S_IFSOCK:
		return checkSocket(name, int(f.Fd()))
	case unix.S_IFBLK:
		return fmt.Errorf("%s is a disk", name)
	case unix.S_IFREG:
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path = strings.TrimSuffix(path, " (deleted)")
		for _, root := range protected {
			if real, err := (machine{}).resolve(root); err == nil && below(path, real) {
				return fmt.Errorf("%s is the protected file %q, which the command could write through it; use a pipe (cat %s | ...)", name, path, path)
			}
		}
	}
	return nil
}

// checkSocket accepts a connected UNIX stream (what sshd, inetd-like supervisors and
// editors hand to a command) and refuses sockets that could be sent elsewhere.
func checkSocket(name string, fd int) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = unix.Getpeername(fd)
	if family != unix.AF_UNIX || kind == unix.SOCK_DGRAM || err != nil {
		return fmt.Errorf("%s is a socket of the machine's network; use a pipe (cat | egret ... | cat)", name)
	}
	return nil
}
