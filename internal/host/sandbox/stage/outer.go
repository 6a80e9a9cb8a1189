package stage

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// outer is the outer stage: root in the sandbox's first user namespace.
func outer(control *Conn) error {
	keepTerminalSignalsOff()
	if err := closeOnExec(innerFD + 1); err != nil {
		return err
	}
	unix.CloseOnExec(controlFD)
	payload, err := control.Expect(FramePlan)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	plan, err := DecodeOuter(payload)
	if err != nil {
		return err
	}
	if err := setUpNetwork(control, plan); err != nil {
		return err
	}
	if err := arrange(plan.Mounts); err != nil {
		return err
	}
	pid, err := startInner(plan)
	if err != nil {
		return fmt.Errorf("start process 1 of the sandbox: %w", err)
	}
	if err := unix.Close(innerFD); err != nil {
		return err
	}
	go dieWith(control)
	return waitFor(pid)
}

// keepTerminalSignalsOff keeps what the terminal sends to the whole process group
// (Ctrl-C, hang-up) from ending a stage: the command decides what it means. They are
// caught and dropped, not ignored, because the command would inherit ignoring.
// What was ignored from the start (nohup) stays so. The signals that stop a job
// (Ctrl-Z) keep their effect.
func keepTerminalSignalsOff() {
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// closeOnExec marks every file descriptor from first on: whatever egret inherited
// stays out of the sandbox.
func closeOnExec(first uint) error {
	if err := unix.CloseRange(first, ^uint(0)>>1&0x7fffffff, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files on exec: %w", err)
	}
	return nil
}

func setUpNetwork(control *Conn, plan *Outer) error {
	for _, r := range plan.Requests {
		if err := request(control, r); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	for _, s := range plan.Sysctls {
		_ = os.WriteFile(s.Path, []byte(s.Value), 0)
	}
	for _, s := range plan.Sockets {
		if err := openSocket(control, s); err != nil {
			return fmt.Errorf("open %s: %w", s.Name, err)
		}
	}
	if len(plan.PacketLog) > 0 {
		if err := openPacketLog(control, plan.PacketLog); err != nil {
			note := fmt.Sprintf("refused packets (UDP, ICMP, ...) will not be reported: the kernel has no nflog: %v", err)
			if err := control.Write(FrameNote, []byte(note)); err != nil {
				return err
			}
		}
	}
	return control.Write(FrameNetwork, nil)
}

func request(control *Conn, r netns.Request) error {
	err := netns.Exchange(r.Protocol, r.Data)
	if err != nil && r.Fallback != nil {
		if fallback := netns.Exchange(r.Protocol, r.Fallback); fallback != nil {
			return errors.Join(err, fallback)
		}
		return control.Write(FrameNote, []byte(fmt.Sprintf("%s: done without the log of refused packets: %v", r.Name, err)))
	}
	if r.Optional {
		return nil
	}
	return err
}

// openSocket opens a socket and hands it out. Where the family is switched off it is
// left out.
func openSocket(control *Conn, s Socket) error {
	fd, err := listen(s)
	if s.IPv6 && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return control.Write(FrameFiles, []byte(s.Name), fd)
}

func listen(s Socket) (int, error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: s.Port, Addr: [4]byte{127, 0, 0, 1}}
	if s.IPv6 {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: s.Port, Addr: [16]byte{15: 1}}
	}
	if s.Packet {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, address); err == nil && !s.Packet {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func openPacketLog(control *Conn, messages [][]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for _, m := range messages {
		if err := netns.ExchangeOn(fd, m); err != nil {
			return err
		}
	}
	return control.Write(FrameFiles, []byte(PacketLogName), fd)
}

// startInner starts the inner stage in its own user, mount and PID namespaces. It
// keeps, for the time of its work, the capabilities over those only.
func startInner(plan *Outer) (int, error) {
	return syscall.ForkExec("/proc/self/exe", []string{InnerName}, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2, innerFD},
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
			UidMappings:                []syscall.SysProcIDMap{{ContainerID: plan.UID, HostID: 0, Size: 1}},
			GidMappings:                []syscall.SysProcIDMap{{ContainerID: plan.GID, HostID: 0, Size: 1}},
			GidMappingsEnableSetgroups: false,
			AmbientCaps:                []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP},
			Pdeathsig:                  unix.SIGKILL,
		},
	})
}

// dieWith ends this process, and so the sandbox, when egret is gone. (The parent
// death signal does the same; this holds also where it was lost.)
func dieWith(control *Conn) {
	_, _, _ = ReadFrame(control)
	unix.Exit(1)
}

func waitFor(pid int) error {
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
