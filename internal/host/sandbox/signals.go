package sandbox

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// Relay passes signals that this process is sent on to the command, until stop is
// called. What the terminal sends (Ctrl-C, Ctrl-\, hang-up) it sends to the whole
// foreground process group, the command included; such a signal is only kept from
// ending this process. Stopping and continuing (Ctrl-Z) keep their usual effect.
func (s *Sandbox) Relay() (stop func()) {
	received := make(chan os.Signal, 8)
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGCONT} {
		if !signal.Ignored(sig) {
			signal.Notify(received, sig)
		}
	}
	done := make(chan struct{})
	var worker sync.WaitGroup
	worker.Go(func() {
		for {
			select {
			case sig := <-received:
				if !fromTerminal(sig) {
					_ = s.Signal(sig) // it may have ended
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(received)
		close(done)
		worker.Wait()
	}
}

// fromTerminal says whether a signal has reached the command already because the
// terminal sent it to its foreground process group.
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGHUP:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// Main runs a stage of the sandbox when this process was started as one, and does
// not return then. Linking the package is enough (see package stage); a program may
// call it first thing to make that visible.
func Main() {
	if IsChild(os.Args) {
		os.Exit(1) // the stage should have taken over before main
	}
}

// IsChild says whether the program was started as a stage of the sandbox.
func IsChild(args []string) bool { return stage.IsChild(args) }
