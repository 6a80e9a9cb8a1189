package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filterVM runs the filter as the kernel would. bpf.VM reads big-endian words, so
// the data is laid out that way.
func filterVM(t *testing.T, arch uint32, x32 bool) func(arch uint32, call uintptr, args ...uint32) uint32 {
	t.Helper()
	raw, err := systemCallFilter(arch, x32)
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
	filter := filterVM(t, arch, hasX32)
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

func TestX32IsRefused(t *testing.T) {
	filter := filterVM(t, unix.AUDIT_ARCH_X86_64, true)
	if got := filter(unix.AUDIT_ARCH_X86_64, 1<<30|unix.SYS_READ); got != seccompErrno|uint32(unix.ENOSYS) {
		t.Errorf("x32 read: %#x", got)
	}
}
