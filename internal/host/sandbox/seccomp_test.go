package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filterVM runs the filter as the kernel would. bpf.VM reads big-endian words, so
// the data is laid out that way.
func filterVM(t *testing.T, arch uint32, x32, sharedGroup bool) func(arch uint32, call uintptr, args ...uint32) uint32 {
	t.Helper()
	raw, err := systemCallFilter(arch, x32, sharedGroup)
	if err != nil {
		t.Fatal(err)
	}
	var code []bpf.RawInstruction
	for i := 0; i < len(raw); i += 8 {
		code = append(code, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(raw[i:]), Jt: raw[i+2], Jf: raw[i+3], K: binary.NativeEndian.Uint32(raw[i+4:]),
		})
	}
	program, ok := bpf.Disassemble(code)
	if !ok {
		t.Fatal("the filter has unknown instructions")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(arch uint32, call uintptr, args ...uint32) uint32 {
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[offsetNumber:], uint32(call))
		binary.BigEndian.PutUint32(data[offsetArch:], arch)
		for i, a := range args {
			binary.BigEndian.PutUint32(data[offsetArg0+8*i:], a)
		}
		n, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
}

func TestSystemCallFilter(t *testing.T) {
	const arch = auditArch
	filter := filterVM(t, arch, hasX32, false)
	refused := func(e unix.Errno) uint32 { return seccompErrno | uint32(e) }
	for _, c := range []struct {
		name string
		call uintptr
		args []uint32
		want uint32
	}{
		{"read", unix.SYS_READ, nil, seccompAllow},
		{"execve", unix.SYS_EXECVE, nil, seccompAllow},
		{"ptrace stays allowed", unix.SYS_PTRACE, nil, seccompAllow},
		{"mount", unix.SYS_MOUNT, nil, refused(unix.EPERM)},
		{"umount2", unix.SYS_UMOUNT2, nil, refused(unix.EPERM)},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, nil, refused(unix.EPERM)},
		{"syslog, the last of the list", unix.SYS_SYSLOG, nil, refused(unix.EPERM)},
		{"clone3", unix.SYS_CLONE3, nil, refused(unix.ENOSYS)},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, nil, refused(unix.ENOSYS)},
		{"socket unix", unix.SYS_SOCKET, []uint32{unix.AF_UNIX, unix.SOCK_STREAM, 0}, seccompAllow},
		{"socket inet6", unix.SYS_SOCKET, []uint32{unix.AF_INET6, unix.SOCK_STREAM, 0}, seccompAllow},
		{"socket vsock", unix.SYS_SOCKET, []uint32{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, refused(unix.EAFNOSUPPORT)},
		{"socketpair tipc", unix.SYS_SOCKETPAIR, []uint32{unix.AF_TIPC, unix.SOCK_STREAM, 0}, refused(unix.EAFNOSUPPORT)},
		{"netlink route", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, seccompAllow},
		{"netlink netfilter", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, refused(unix.EPROTONOSUPPORT)},
		{"inet with a protocol", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, seccompAllow},
		{"ioctl window size", unix.SYS_IOCTL, []uint32{0, unix.TIOCGWINSZ}, seccompAllow},
		{"ioctl TIOCSTI", unix.SYS_IOCTL, []uint32{0, unix.TIOCSTI}, refused(unix.EPERM)},
		{"ioctl TIOCLINUX", unix.SYS_IOCTL, []uint32{0, tiocLinux}, refused(unix.EPERM)},
		{"fcntl F_SETFL", unix.SYS_FCNTL, []uint32{0, unix.F_SETFL}, seccompAllow},
		{"fcntl F_SETLEASE", unix.SYS_FCNTL, []uint32{0, unix.F_SETLEASE, unix.F_WRLCK}, refused(unix.EPERM)},
		{"fcntl F_SETDELEG", unix.SYS_FCNTL, []uint32{0, fSetDelegation}, refused(unix.EPERM)},
		{"kill the own group", unix.SYS_KILL, []uint32{0, uint32(unix.SIGKILL)}, seccompAllow},
		{"fork", unix.SYS_CLONE, []uint32{uint32(unix.SIGCHLD)}, seccompAllow},
		{"clone user", unix.SYS_CLONE, []uint32{unix.CLONE_NEWUSER | unix.CLONE_NEWNET}, seccompAllow},
		{"clone mount", unix.SYS_CLONE, []uint32{unix.CLONE_NEWUSER | unix.CLONE_NEWNS}, refused(unix.EPERM)},
		{"unshare user", unix.SYS_UNSHARE, []uint32{unix.CLONE_NEWUSER | unix.CLONE_NEWPID}, seccompAllow},
		{"unshare files", unix.SYS_UNSHARE, []uint32{unix.CLONE_FILES}, seccompAllow},
		{"unshare mount", unix.SYS_UNSHARE, []uint32{unix.CLONE_NEWNS}, refused(unix.EPERM)},
		{"unshare of the future", unix.SYS_UNSHARE, []uint32{0x00100000}, refused(unix.EPERM)},
	} {
		if got := filter(arch, c.call, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := filter(unix.AUDIT_ARCH_I386, unix.SYS_READ); got != seccompKillProcess {
		t.Errorf("32-bit system call: %#x", got)
	}
}

// In the process group of egret a command signals processes, and suspends the job.
func TestSharedProcessGroup(t *testing.T) {
	filter := filterVM(t, auditArch, hasX32, true)
	refused := seccompErrno | uint32(unix.EPERM)
	for _, c := range []struct {
		name string
		call uintptr
		args []uint32
		want uint32
	}{
		{"kill a process", unix.SYS_KILL, []uint32{7, uint32(unix.SIGKILL)}, seccompAllow},
		{"kill a group of the namespace", unix.SYS_KILL, []uint32{^uint32(6), uint32(unix.SIGKILL)}, seccompAllow},
		{"kill the group", unix.SYS_KILL, []uint32{0, uint32(unix.SIGKILL)}, refused},
		{"stop the group for good", unix.SYS_KILL, []uint32{0, uint32(unix.SIGSTOP)}, refused},
		{"terminate the group", unix.SYS_KILL, []uint32{0, uint32(unix.SIGTERM)}, refused},
		{"suspend the job", unix.SYS_KILL, []uint32{0, uint32(unix.SIGTSTP)}, seccompAllow},
		{"is there a group", unix.SYS_KILL, []uint32{0, 0}, seccompAllow},
		{"nice of the group", unix.SYS_SETPRIORITY, []uint32{unix.PRIO_PGRP, 0, 19}, refused},
		{"nice of a process", unix.SYS_SETPRIORITY, []uint32{unix.PRIO_PROCESS, 0, 19}, seccompAllow},
		{"I/O priority of the group", unix.SYS_IOPRIO_SET, []uint32{ioprioWhoGroup, 0, 3 << 13}, refused},
		{"I/O priority of a process", unix.SYS_IOPRIO_SET, []uint32{1, 0, 3 << 13}, seccompAllow},
		{"lease", unix.SYS_FCNTL, []uint32{0, unix.F_SETLEASE}, refused},
		{"clone mount", unix.SYS_CLONE, []uint32{unix.CLONE_NEWNS}, refused},
	} {
		if got := filter(auditArch, c.call, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

func TestX32IsRefused(t *testing.T) {
	filter := filterVM(t, unix.AUDIT_ARCH_X86_64, true, false)
	if got := filter(unix.AUDIT_ARCH_X86_64, 1<<30|unix.SYS_READ); got != seccompErrno|uint32(unix.ENOSYS) {
		t.Errorf("x32 read: %#x", got)
	}
}
