// Package sandbox runs a command in user, network, mount, PID, IPC and UTS namespaces
// of its own, whose only way out are the listening sockets that it hands to the
// caller. It needs no root. It decides nothing about destinations, and it does not
// forward anything: that is the caller's.
//
// What the command can do to files is what the user can do, except for the paths that
// are protected. What is hidden and refused, and why, is said where it is done:
// mounts.go, protect.go, dev.go, seccomp.go, and package intercept for the network.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// Addresses of the sandbox's loopback interface, besides 127.0.0.1 and ::1: the
// source of what leaves, and the resolver. 192.0.0.0/29 is for addresses that exist
// only inside of a host (RFC 7335), fd00::/8 for local ones (RFC 4193).
var (
	address4 = netip.MustParseAddr("192.0.0.2")
	address6 = netip.MustParseAddr("fd65:6772:6574::2")
)

// Spec says what to run and how.
type Spec struct {
	// Path of the program: a path, or a name that is looked up in PATH of Env.
	Path string
	Args []string // with the program's name as the first
	// Env is the command's environment, whole and unchanged.
	Env []string
	Dir string // "": the current folder
	// Standard streams; nil: /dev/null.
	Stdin, Stdout, Stderr *os.File

	// ReadOnly are files and folders that the command cannot write, rename or replace,
	// under any path. Symbolic links are resolved once, by Start: a caller that reads
	// the files later must do so by their resolved paths. Mounts do not protect a file
	// that has another name outside of them (a hard link): that is for the caller to see.
	ReadOnly []string
	// Hide are further folders and sockets to hide; Expose are paths in hidden folders
	// (see mounts.go) and devices that the command shall have nevertheless.
	Hide, Expose []string
	// Home is the user's home folder, where more sockets are; "": there is none.
	Home string
	// Search and ResolverOptions go to the sandbox's resolv.conf(5).
	Search, ResolverOptions []string

	Logger *slog.Logger // nil: silent

	withoutFilter bool // tests: is the rest tight without the system call filter?
}

// ExitStatus is how the command ended.
type ExitStatus struct {
	Code   int            // when Signal is 0
	Signal syscall.Signal // that killed it
	Core   bool           // with a core dump
}

// ShellCode is the status as shells have it: the code, or 128 and the signal.
func (s ExitStatus) ShellCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// Sandbox is a started sandbox. Its methods may be called from several goroutines.
type Sandbox struct {
	log          *slog.Logger
	outer, inner *net.UnixConn
	process      *os.Process
	workers      sync.WaitGroup
	stopContext  func() bool

	network, ready, started, ended chan struct{}

	tcp        []net.Listener
	dnsPackets []net.PacketConn
	dnsStreams []net.Listener
	packets    chan PacketDenied
	packetLog  *os.File

	mu        sync.Mutex
	writing   sync.Mutex // frames to the inner stage
	going     bool
	pending   []syscall.Signal
	status    *ExitStatus
	failure   error
	signalled bool // killed by Close or the context
}

// Start makes the sandbox and returns when its listening sockets are open. The
// command itself starts with Go. The sandbox ends, with every process in it, when
// the command ends, ctx is done, Close is called, or this process dies.
//
// Errors are for Diagnose, except *CommandError and those about the Spec.
func Start(ctx context.Context, spec Spec) (*Sandbox, error) {
	plan, err := planAll(&spec)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	s := &Sandbox{
		log:     spec.Logger,
		network: make(chan struct{}), ready: make(chan struct{}), started: make(chan struct{}), ended: make(chan struct{}),
		packets: make(chan PacketDenied, packetBacklog),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.launch(plan); err != nil {
		return nil, err
	}
	s.stopContext = context.AfterFunc(ctx, s.kill)
	if err := s.await(s.network); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// TCP are the listeners that captured TCP connections arrive at, one per address
// family; intercept.OriginalDestination says where they were going. A caller closes
// them, or Close does.
func (s *Sandbox) TCP() []net.Listener { return s.tcp }

// DNSPackets are the sockets that DNS over UDP arrives at, to whatever address it
// was sent; an answer goes back to the address that a packet came from.
func (s *Sandbox) DNSPackets() []net.PacketConn { return s.dnsPackets }

// DNSStreams is the same for DNS over TCP.
func (s *Sandbox) DNSStreams() []net.Listener { return s.dnsStreams }

// Go starts the command, and returns when it runs. *CommandError says that it could
// not be started.
func (s *Sandbox) Go() error {
	if err := s.await(s.ready); err != nil {
		return err
	}
	s.writing.Lock()
	err := s.write(stage.FrameGo, nil)
	s.mu.Lock()
	s.going = true
	pending := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, sig := range pending {
		err = errors.Join(err, s.write(stage.FrameSignal, stage.EncodeNumber(int(sig))))
	}
	s.writing.Unlock()
	if await := s.await(s.started); await != nil {
		return await // says more than a failed write
	}
	return err
}

// Signal sends the command a signal; before Go it is kept until then.
func (s *Sandbox) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v: not a signal of this system", sig)
	}
	s.mu.Lock()
	if !s.going {
		s.pending = append(s.pending, number)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write(stage.FrameSignal, stage.EncodeNumber(int(number)))
}

// Wait waits for the command's end. An error says that the sandbox failed or was
// closed, not how the command ended.
func (s *Sandbox) Wait() (ExitStatus, error) {
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != nil {
		return *s.status, nil
	}
	return ExitStatus{}, s.endError()
}

// endError says why the sandbox ended without the command's status. Holds mu.
func (s *Sandbox) endError() error {
	switch {
	case s.failure != nil:
		return s.failure
	case s.signalled:
		return errors.New("the sandbox was closed")
	}
	return errors.New("the sandbox was killed")
}

// Close ends the sandbox and every process in it, and returns when they are gone.
func (s *Sandbox) Close() error {
	if s.stopContext != nil {
		s.stopContext()
	}
	s.kill()
	<-s.ended
	s.closeSockets()
	s.workers.Wait()
	return nil
}

func (s *Sandbox) kill() {
	s.mu.Lock()
	s.signalled = true
	s.mu.Unlock()
	_ = s.process.Kill() // it may be gone already
}

// await waits for a milestone, or the end.
func (s *Sandbox) await(milestone <-chan struct{}) error {
	select {
	case <-milestone:
		return nil
	case <-s.ended:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-milestone: // reached, and ended since
		return nil
	default:
		return s.endError()
	}
}

func (s *Sandbox) write(kind byte, payload []byte) error {
	_, err := s.inner.Write(stage.AppendFrame(nil, kind, payload))
	return err
}

// launch starts the outer stage and the goroutines that talk with both.
func (s *Sandbox) launch(plan *plan) error {
	outer, outerChild, err := connection()
	if err != nil {
		return err
	}
	inner, innerChild, err := connection()
	if err != nil {
		return errors.Join(err, outer.Close(), outerChild.Close())
	}
	s.outer, s.inner = outer, inner
	reaped := make(chan struct{})
	err = s.startOuter(append(plan.stdio[:], outerChild, innerChild), reaped)
	_, _ = outerChild.Close(), innerChild.Close()
	if err != nil {
		return errors.Join(&StartError{Stage: StageClone, Err: err}, outer.Close(), inner.Close())
	}
	var readers sync.WaitGroup
	readers.Go(func() { s.readOuter() })
	readers.Go(func() { s.readInner() })
	s.workers.Go(func() {
		<-reaped
		readers.Wait()
		_, _ = outer.Close(), inner.Close()
		close(s.ended)
	})
	// The plans may be larger than a socket's buffer, and are read one after the other.
	s.writing.Lock()
	s.workers.Go(func() {
		_, _ = outer.Write(stage.AppendFrame(nil, stage.FramePlan, plan.outer)) // a stage that is gone has said why
	})
	s.workers.Go(func() {
		defer s.writing.Unlock()
		_ = s.write(stage.FramePlan, plan.inner)
	})
	return nil
}

// connection is a pair of connected sockets: the caller's end, and the stage's.
func connection() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	own, child := os.NewFile(uintptr(fds[0]), "sandbox"), os.NewFile(uintptr(fds[1]), "sandbox")
	conn, err := net.FileConn(own)
	_ = own.Close()
	if err != nil {
		return nil, nil, errors.Join(err, child.Close())
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("socket pair is a %T", conn), conn.Close(), child.Close())
	}
	return unixConn, child, nil
}

// startOuter starts the outer stage from a thread that lives as long as it does: the
// kernel sends the parent death signal when the thread ends, not the process.
func (s *Sandbox) startOuter(files []*os.File, reaped chan<- struct{}) error {
	started := make(chan error)
	s.workers.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		defer close(reaped)
		process, err := os.StartProcess("/proc/self/exe", []string{stage.OuterName}, outerAttr(files))
		s.process = process
		started <- err
		if err == nil {
			_, _ = process.Wait() // what it has to say comes as a frame
		}
	})
	return <-started
}

func outerAttr(files []*os.File) *os.ProcAttr {
	return &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=2"}, // or each stage would look for the limits of its control group
		Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			GidMappingsEnableSetgroups: false,
			Pdeathsig:                  unix.SIGKILL,
		},
	}
}

// readOuter handles what the outer stage says.
func (s *Sandbox) readOuter() {
	r := &rightsReader{conn: s.outer}
	for {
		kind, payload, err := stage.ReadFrame(r)
		if err != nil {
			s.readFailed(err)
			return
		}
		switch kind {
		case stage.FrameFiles:
			if err := s.adopt(string(payload), r.take()); err != nil {
				s.fail(err)
			}
		case stage.FrameNetwork:
			s.startPacketLog()
			close(s.network)
		default:
			s.common(kind, payload)
		}
	}
}

// readInner handles what the inner stage says.
func (s *Sandbox) readInner() {
	for {
		kind, payload, err := stage.ReadFrame(s.inner)
		if err != nil {
			s.readFailed(err)
			return
		}
		switch kind {
		case stage.FrameReady:
			close(s.ready)
		case stage.FrameStarted:
			close(s.started)
		case stage.FrameExit:
			s.exited(payload)
		default:
			s.common(kind, payload)
		}
	}
}

func (s *Sandbox) common(kind byte, payload []byte) {
	switch kind {
	case stage.FrameNote:
		s.log.Warn(string(payload))
	case stage.FrameError:
		failure, err := stage.DecodeFailure(payload)
		switch {
		case err != nil:
			s.fail(err)
		case failure.Command:
			s.fail(&CommandError{Err: failure})
		default:
			s.fail(&StartError{Stage: failure.Stage, Err: failure})
		}
	default:
		s.fail(fmt.Errorf("unexpected frame %q", kind))
	}
}

func (s *Sandbox) readFailed(err error) {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		s.fail(err)
	}
}

// fail notes the first failure.
func (s *Sandbox) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
	}
}

func (s *Sandbox) exited(payload []byte) {
	number, err := stage.DecodeNumber(payload)
	if err != nil {
		s.fail(err)
		return
	}
	status := exitStatus(syscall.WaitStatus(number))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = &status
}

func exitStatus(w syscall.WaitStatus) ExitStatus {
	if w.Signaled() {
		return ExitStatus{Signal: w.Signal(), Core: w.CoreDump()}
	}
	return ExitStatus{Code: w.ExitStatus()}
}
