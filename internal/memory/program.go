package memory

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// span is a part of the address space, from start up to end.
type span struct{ start, end uintptr }

// forgetProgram gives back the pages of the program itself, code and constants: most were
// used once, when packages registered the messages that they know, and are two thirds of
// what the process takes. The kernel maps those that are used again from the file, which
// it most often still has in its cache.
func forgetProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	spans, err := readOnly(f, program)
	for _, s := range spans {
		// The pages are the file's, never written: nothing is lost.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, s.start, s.end-s.start, unix.MADV_DONTNEED); errno != 0 {
			err = errors.Join(err, errno)
		}
	}
	return err
}

// readOnly finds where a file is mapped without leave to write, in the format of
// /proc/PID/maps (proc(5)): "start-end perms offset device inode path".
func readOnly(maps io.Reader, path string) ([]span, error) {
	var out []span
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasSuffix(line, " "+path) {
			continue
		}
		var s span
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &s.start, &s.end, &perms); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		if len(perms) == 4 && perms[0] == 'r' && perms[1] == '-' && perms[3] == 'p' && s.end > s.start {
			out = append(out, s)
		}
	}
	return out, lines.Err()
}
