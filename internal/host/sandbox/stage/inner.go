package stage

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inner is the inner stage: process 1 of the sandbox.
func inner(control *Conn) error {
	keepTerminalSignalsOff()
	// The command has the same uid: without this it could trace this process, which
	// holds a connection to egret.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set not dumpable: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent death signal: %w", err)
	}
	// The folder that egret was in may be below a mount that hides or protects it.
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	payload, err := control.Expect(FramePlan)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	plan, err := DecodeInner(payload)
	if err != nil {
		return err
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := control.Write(FrameReady, nil); err != nil {
		return err
	}
	if _, err := control.Expect(FrameGo); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	pid, err := startCommand(plan)
	if err != nil {
		return err
	}
	if err := control.Write(FrameStarted, nil); err != nil {
		return err
	}
	go relaySignals(control, pid)
	status, err := reap(pid)
	if err != nil {
		return err
	}
	return control.Write(FrameExit, EncodeNumber(int(status)))
}

// mountProc mounts the PID namespace's own /proc. All of it that is not about
// processes and can be written to is made read-only: the settings of the network
// namespace belong to the user, and those of the kernel to root, who may be the user.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc on %q: %w", "/proc", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if name[0] >= '0' && name[0] <= '9' || e.Type()&os.ModeSymlink != 0 {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.IsDir() && info.Mode().Perm()&0o222 == 0 {
			continue
		}
		path := "/proc/" + name
		if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("protect %q: %w", path, err)
		}
		if err := setAttributes(path, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE); err != nil {
			return fmt.Errorf("protect %q: %w", path, err)
		}
	}
	return nil
}

// startCommand drops every privilege of this thread and starts the command from it.
// The main goroutine is locked to the thread as long as packages are initialised,
// which is when a stage runs; a new process gets the privileges of the thread.
func startCommand(plan *Inner) (int, error) {
	if err := restrict(plan.Seccomp); err != nil {
		return 0, err
	}
	pid, err := syscall.ForkExec(plan.Path, plan.Args, &syscall.ProcAttr{
		Dir:   plan.Dir,
		Env:   plan.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: plan.OwnGroup},
	})
	if err == nil {
		return pid, nil
	}
	if plan.Dir != "" {
		if dirErr := unix.Access(plan.Dir, unix.X_OK); dirErr != nil {
			return 0, &commandError{fmt.Errorf("the working directory %q cannot be reached inside the sandbox: %w", plan.Dir, dirErr)}
		}
	}
	return 0, &commandError{fmt.Errorf("start %q: %w", plan.Path, err)}
}

// relaySignals passes on the signals that egret was sent for the command.
func relaySignals(control *Conn, pid int) {
	for {
		payload, err := control.Expect(FrameSignal)
		if err != nil {
			unix.Exit(1) // egret is gone; process 1 takes all others with it
		}
		if s, err := DecodeNumber(payload); err == nil && s > 0 && s < 65 {
			_ = unix.Kill(pid, unix.Signal(s)) // it may be gone
		}
	}
}

// reap waits for the command, and for every process that lost its parent.
func reap(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case got == pid:
			return status, nil
		}
	}
}
