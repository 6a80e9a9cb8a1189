package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// process is one program that must run as long as the node does.
type process struct {
	name string
	args []string
	env  []string
}

// start runs a program with its output in logs/NAME.log. When it ends before ctx does,
// fail is called with the end of its log.
func start(ctx context.Context, dir string, p process, fail context.CancelCauseFunc) error {
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	path := filepath.Join(logs, p.name+".log")
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		err := cmd.Wait()
		if ctx.Err() == nil {
			fail(fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(err), tail(path, 15)))
		}
	}()
	return nil
}

// tail is the last lines of a file, for a message.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
