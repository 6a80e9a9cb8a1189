package runtest

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Start starts a program that ends with the test; where that fails, the end of what the
// program said is shown.
func Start(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	said := &Log{}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := said.String()
			t.Logf("%s said: %s", program, text[max(0, len(text)-2000):])
		}
	})
	return cmd
}
