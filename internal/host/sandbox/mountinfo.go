package sandbox

import (
	"path/filepath"
	"strconv"
	"strings"
)

// mount is a line of /proc/PID/mountinfo (proc(5)).
type mount struct {
	device string // major:minor of the file system
	root   string // what of the file system is mounted
	point  string // where
	fsType string
}

// parseMounts reads mountinfo. A line that is not of its form is left out.
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 6 || len(rest) < 1 {
			continue
		}
		mounts = append(mounts, mount{
			device: fields[2], root: unescape(fields[3]), point: unescape(fields[4]), fsType: rest[0],
		})
	}
	return mounts
}

// unescape undoes the kernel's escapes of white space and backslash: \040 and so on.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// below says whether path is folder or something in it.
func below(path, folder string) bool {
	return path == folder || folder == "/" || strings.HasPrefix(path, folder+"/")
}

// relative is path as seen from folder, "" for folder itself.
func relative(path, folder string) string {
	return strings.Trim(strings.TrimPrefix(path, folder), "/")
}

// mountOf is the mount that path is in: the last of those with the longest point.
func mountOf(mounts []mount, path string) (mount, bool) {
	var found mount
	ok := false
	for _, m := range mounts {
		if below(path, m.point) && len(m.point) >= len(found.point) {
			found, ok = m, true
		}
	}
	return found, ok
}

// alias is another path under which something is visible.
type alias struct{ path, of string }

// aliases are the other paths under which path, or a part of it, is visible because
// the same file system is mounted more than once (or a folder of it elsewhere).
// Overlay file systems hide what they are made of and are not looked through.
func aliases(mounts []mount, path string) []alias {
	home, ok := mountOf(mounts, path)
	if !ok {
		return nil
	}
	inside := filepath.Join(home.root, relative(path, home.point))
	var found []alias
	for _, m := range mounts {
		if m.device != home.device {
			continue
		}
		var a alias
		switch {
		case below(inside, m.root):
			a = alias{path: filepath.Join(m.point, relative(inside, m.root)), of: path}
		case below(m.root, inside):
			a = alias{path: m.point, of: filepath.Join(path, relative(m.root, inside))}
		default:
			continue
		}
		if a.path != a.of {
			found = append(found, a)
		}
	}
	return found
}

// isMountPoint says whether something is mounted exactly at path.
func isMountPoint(mounts []mount, path string) bool {
	for _, m := range mounts {
		if m.point == path {
			return true
		}
	}
	return false
}
