// Package world runs a program in a small world of its own: a user, network and
// mount namespace in which the simulated internet is all the network there is, its
// resolver is the machine's resolver, and its certificate authority is trusted.
// The lab and the scenario tests run in it. It needs no root.
//
// Three processes: the caller, the keeper (has the namespace's capabilities, sets
// everything up, serves the internet), and the program (has none of them: to it
// the world is just a machine).
package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox"
	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
	"github.com/egret-mesh/egret/internal/lab/internet"
)

// KeeperArg is the first argument of the keeper process. A program that calls Run
// must hand over to Keep when it is started with it.
const KeeperArg = "internal-world-keeper"

// DirEnv names the folder of the world, for the program: "dns-queries.log" has the
// names that its DNS server was asked, "ca.crt" its certificate authority.
const DirEnv = "EGRET_WORLD_DIR"

// Run starts the program argv in a new world and returns its exit status. Standard
// input and output are the caller's.
func Run(argv []string) (int, error) { return run(argv, keeperPlain) }

// RunAsAdministrator is Run for a program that makes namespaces of its own in the world
// and connects them: it has the keeper's capabilities there, as ambient ones.
func RunAsAdministrator(argv []string) (int, error) { return run(argv, keeperAdministrator) }

// What the keeper gives the program; what follows is the program.
const (
	keeperPlain         = "--"
	keeperAdministrator = "--administrator"
)

func run(argv []string, gives string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, append([]string{KeeperArg, gives}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	uid, gid := os.Getuid(), os.Getgid()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The parent-death signal follows the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, &sandbox.StartError{Stage: sandbox.StageClone, Err: err}
	}
	return waitForwarding(cmd)
}

// Keep is the keeper: args are those after KeeperArg. It returns the status to exit
// with.
func Keep(args []string, w internet.World) (int, error) {
	if len(args) < 2 || args[0] != keeperPlain && args[0] != keeperAdministrator {
		return 0, errors.New("the world keeper is started by egret itself")
	}
	dir, err := os.MkdirTemp("", "egret-world-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	if err := setUpNetwork(w); err != nil {
		return 0, &sandbox.StartError{Stage: stage.OuterName, Err: fmt.Errorf("network of the world: %w", err)}
	}
	queries, err := os.OpenFile(filepath.Join(dir, "dns-queries.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { _ = queries.Close() }()
	net, err := internet.Start(w, queries)
	if err != nil {
		return 0, fmt.Errorf("simulated internet: %w", err)
	}
	defer net.Close()
	bundle, err := setUpFiles(dir, w.DNS, net.CA)
	if err != nil {
		return 0, &sandbox.StartError{Stage: stage.OuterName, Err: fmt.Errorf("files of the world: %w", err)}
	}
	return runProgram(args[1:], args[0] == keeperAdministrator, append(os.Environ(),
		DirEnv+"="+dir, "SSL_CERT_FILE="+bundle, "CURL_CA_BUNDLE="+bundle, "GIT_SSL_CAINFO="+bundle))
}

// runProgram runs argv, with or without the keeper's ambient capabilities.
func runProgram(argv []string, capabilities bool, env []string) (int, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Ambient capabilities belong to the thread; a child has those of the thread
	// that starts it. The thread is kept for the keeper's whole life, as the
	// parent-death signal follows it too.
	runtime.LockOSThread()
	if !capabilities {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("clear ambient capabilities: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return waitForwarding(cmd)
}

// waitForwarding waits for cmd and passes termination signals on. Those of the
// terminal reach the whole process group by themselves.
func waitForwarding(cmd *exec.Cmd) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGHUP {
				_ = cmd.Process.Signal(sig)
			}
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if ok && status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}
