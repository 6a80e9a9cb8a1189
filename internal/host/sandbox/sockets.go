package sandbox

import (
	"path/filepath"
	"slices"
	"strings"
)

// parseUnixSockets reads the path names of /proc/net/unix (proc(5)): absolute paths
// only, for abstract names ("@...") belong to a network namespace, and relative ones
// cannot be found.
func parseUnixSockets(text string) []string {
	var paths []string
	for line := range strings.Lines(text) {
		// Num RefCount Protocol Flags Type St Inode Path: the path may have spaces.
		rest := strings.TrimSuffix(line, "\n")
		for range 7 {
			rest = strings.TrimLeft(rest, " ")
			_, rest, _ = strings.Cut(rest, " ")
		}
		if path := strings.TrimLeft(rest, " "); strings.HasPrefix(path, "/") {
			paths = append(paths, filepath.Clean(path))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// pathsInEnvironment are the absolute paths in the values of environment variables:
// SSH_AUTH_SOCK, DBUS_SESSION_BUS_ADDRESS, DOCKER_HOST, TMUX and others name sockets.
func pathsInEnvironment(env []string) []string {
	var paths []string
	for _, v := range env {
		_, value, _ := strings.Cut(v, "=")
		for _, part := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",;:=", r) }) {
			if strings.HasPrefix(part, "/") {
				// unix:///run/x.sock
				paths = append(paths, filepath.Clean(part))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
