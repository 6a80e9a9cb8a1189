package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// commandTimeout bounds one command of the lab.
const commandTimeout = 30 * time.Second

// styling is what curl adds for a terminal: bold, and links (ECMA-48 control sequences
// and operating system commands).
var styling = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)`)

// typeCommand runs a line in a shell on a terminal of its own, as a user would.
func typeCommand(ctx context.Context, dir string, env []string, line string) (Command, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = dir, append(env, "PWD="+dir)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 160})
	if err != nil {
		return Command{Line: line}, err
	}
	defer func() { _ = terminal.Close() }()
	var out bytes.Buffer
	// A terminal ends with EIO when the last process on it is gone.
	if _, err := io.Copy(&out, terminal); err != nil && !errors.Is(err, syscall.EIO) {
		return Command{Line: line}, err
	}
	result := Command{Line: line}
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return result, err
		}
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
	}
	result.ExitCode = cmd.ProcessState.ExitCode()
	result.Output = strings.ReplaceAll(styling.ReplaceAllString(out.String(), ""), "\r\n", "\n")
	return result, nil
}
