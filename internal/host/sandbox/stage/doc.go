// Package stage is the inside of the sandbox: the two processes between egret and
// the command. Both are egret itself, run again from /proc/self/exe:
//
//	egret ── outer stage ── inner stage ── the command
//
// The outer stage is root in user, network, mount, IPC and UTS namespaces of the
// sandbox. It sets the network up, opens the listening sockets and hands them out to
// egret, arranges the mounts, and starts the inner stage. The inner stage is process
// 1 of a PID namespace, in a further user and mount namespace in which the user has
// the own uid again. It mounts /proc, drops every privilege, starts the command, and
// reports how it ended. Both do what a plan tells them that egret has made; they
// decide nothing.
//
// The package must import only what is initialised before egret's big libraries:
// its init takes the process over before theirs have run, which is most of the cost
// of a start. A test holds its list of imports.
package stage

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Names of the stages: their argv[0], and in error reports.
const (
	OuterName = "egret-sandbox-outer"
	InnerName = "egret-sandbox-inner"
)

// File descriptors that a stage is started with, after the standard three.
const (
	controlFD = 3 // the stage's own connection to egret
	innerFD   = 4 // the outer stage only: the inner stage's, to be handed on
)

// Go initialises packages in the order of their import paths as far as their own
// imports allow, so this runs before the protobuf packages, whose registration takes
// some ten milliseconds per start. (unix.Exit because there is nothing to be flushed,
// and with the race detector os.Exit waits for a second.)
func init() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case OuterName:
		unix.Exit(finish(OuterName, outer))
	case InnerName:
		unix.Exit(finish(InnerName, inner))
	}
}

// IsChild says whether the program was started as a stage. In a program that links
// this package init has taken such a process over already.
func IsChild(args []string) bool {
	return len(args) > 0 && (args[0] == OuterName || args[0] == InnerName)
}

// finish runs a stage and reports its failure to egret.
func finish(name string, run func(control *Conn) error) int {
	control := NewConn(controlFD)
	err := run(control)
	if err == nil {
		return 0
	}
	if err := control.Write(FrameError, EncodeFailure(name, err)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err) // egret is gone
	}
	return 1
}
