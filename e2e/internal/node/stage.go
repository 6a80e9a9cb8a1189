// Package node is a Kubernetes of one node on this machine: all of its processes live
// in namespaces of their own (network, mounts, process ids), so that the machine's own
// network is not touched and nothing is left when the first of them ends.
//
// It must not know what runs on the cluster.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Isolate runs this program again with args, as a child of the first process of new
// namespaces. When it ends, or ctx does, the kernel ends all that was started in them.
// dir is the folder for everything that the node writes; it is removed.
func Isolate(ctx context.Context, dir string, firstArgs []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(self, firstArgs...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	restore := kernelSettings()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make namespaces (this needs root): %w", err)
	}
	ended := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	ended()
	return errors.Join(context.Cause(ctx), err, restore(), removeControlGroups(filepath.Base(dir)), os.RemoveAll(dir))
}

// kernelSettings are those of the whole machine that a kubelet changes; what it returns
// sets them back.
func kernelSettings() func() error {
	before := map[string][]byte{}
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		path := "/proc/sys/" + name
		if value, err := os.ReadFile(path); err == nil {
			before[path] = value
		}
	}
	return func() error {
		var errs []error
		for path, value := range before {
			if now, err := os.ReadFile(path); err == nil && string(now) != string(value) {
				errs = append(errs, os.WriteFile(path, value, 0o644))
			}
		}
		return errors.Join(errs...)
	}
}

// First is the first process of the namespaces: it mounts what must be private, starts
// this program once more with args, collects what is orphaned, and returns the exit
// status of its child.
func First(dir string, args []string) (int, error) {
	// Signals of the terminal are for its parent, which kills it.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := privateMounts(dir); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	child, err := os.StartProcess(self, append([]string{self}, args...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for children: %w", err)
		case pid != child.Pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// privateMounts hides the places where the machine's own services and the node's would
// meet.
func privateMounts(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, place := range []string{"run", "var/log", "var/lib/kubelet", "var/lib/cni"} {
		private := filepath.Join(dir, "private", place)
		for _, d := range []string{private, "/" + place} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(private, "/"+place, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over /%s: %w", place, err)
		}
	}
	return nil
}

// controlGroup is the parent of all pods' control groups.
func controlGroup(name string) string { return "/" + name }

// removeControlGroups removes the empty groups that the node leaves.
func removeControlGroups(name string) error {
	controllers, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		return err
	}
	controllers = append(controllers, "/sys/fs/cgroup/"+name)
	var errs []error
	for _, group := range controllers {
		errs = append(errs, removeGroup(group))
	}
	return errors.Join(errs...)
}

func removeGroup(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(group, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(group)
}
