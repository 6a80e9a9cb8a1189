package sandbox

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter is a second wall: what it refuses would mostly fail for want of a
// capability too. It exists for what needs none (sockets that are not bound to a
// network namespace, terminal injection), for what gives a nested user namespace a
// chance to undo the mounts, and to keep large parts of the kernel out of reach.

// seccomp return values (linux/seccomp.h).
const (
	seccompAllow       = 0x7fff0000
	seccompErrno       = 0x00050000
	seccompKillProcess = 0x80000000
)

// Offsets in struct seccomp_data; arguments are 64 bits, little-endian on both
// architectures, and their lower half is what the kernel takes of an int.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg0   = 16
	offsetArg1   = 24
	offsetArg2   = 32
)

// families that socket(2) may be asked for. Others reach beyond the network
// namespace (AF_VSOCK the hypervisor, AF_BLUETOOTH a radio), or see raw frames.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// netlinkProtocols that resolvers and tools like ip(8) and ss(8) use. Netfilter,
// IPsec and the crypto interface have no use without capabilities.
var netlinkProtocols = []uint32{
	unix.NETLINK_ROUTE, unix.NETLINK_USERSOCK, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT, unix.NETLINK_GENERIC,
}

// refusal is a list of system calls and the error that they fail with.
type refusal struct {
	errno unix.Errno
	calls []uint32
}

var refusals = []refusal{
	// io_uring does what the filter cannot see. Programs fall back when it is not there.
	{unix.ENOSYS, []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}},
	// Flags of clone3 are in memory, where the filter cannot see them; C libraries fall
	// back to clone.
	{unix.ENOSYS, []uint32{unix.SYS_CLONE3}},
	// Mounts: a nested user namespace may not rearrange what hides and protects.
	{unix.EPERM, []uint32{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		sysOpenTreeAttr, unix.SYS_OPEN_BY_HANDLE_AT,
	}},
	// Keys: keyrings are not namespaced, and the session's keyring is shared with outside.
	{unix.EPERM, []uint32{unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY}},
	// Large attack surface with no use for a workload.
	{unix.EPERM, []uint32{unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD}},
	// The machine itself.
	{unix.EPERM, []uint32{
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_ACCT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
	}},
}

// sysOpenTreeAttr is open_tree_attr, Linux 6.15 (the number is that of all architectures).
const sysOpenTreeAttr = 467

// terminalInjection are ioctls that put input into a terminal, which the shell
// outside would read after the command has ended.
var terminalInjection = []uint32{unix.TIOCSTI, tiocLinux}

const tiocLinux = 0x541c // TIOCLINUX (ioctl_console(2)): its paste does the same

// unshareKnown are the flags that unshare(2) may be called with: all namespaces but
// mount namespaces, and what threads share. Flags of the future are refused.
const unshareKnown = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME | unix.CLONE_FILES | unix.CLONE_FS |
	unix.CLONE_SYSVSEM | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_VM

// leases are the fcntl(2) commands that let the owner of a file hold up whoever opens
// it (fcntl(2), lease-break-time: 45 s): egret reading the policy, the operator editing it.
var leases = []uint32{unix.F_SETLEASE, fSetDelegation}

const fSetDelegation = 1024 + 16 // F_SETDELEG, Linux 6.19

// suspending are the signals that a command on a terminal may send to its process
// group (0 asks only whether there is one): to suspend itself as Ctrl-Z does.
var suspending = []uint32{0, uint32(unix.SIGTSTP), uint32(unix.SIGTTIN), uint32(unix.SIGTTOU), uint32(unix.SIGCONT)}

const ioprioWhoGroup = 2 // IOPRIO_WHO_PGRP (linux/ioprio.h)

// filter assembles instructions; all jumps are over single return instructions.
type filter struct{ code []bpf.Instruction }

func (f *filter) load(offset uint32) {
	f.code = append(f.code, bpf.LoadAbsolute{Off: offset, Size: 4})
}

// returnIf ends with the value when the accumulator compares.
func (f *filter) returnIf(cond bpf.JumpTest, value, result uint32) {
	f.code = append(f.code, bpf.JumpIf{Cond: cond, Val: value, SkipFalse: 1}, bpf.RetConstant{Val: result})
}

// whenCall runs body, which must end with a return, for one system call only. The
// accumulator has the system call's number before and after.
func (f *filter) whenCall(number uint32, body func(*filter)) {
	inner := &filter{}
	body(inner)
	f.code = append(f.code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(inner.code))})
	f.code = append(f.code, inner.code...)
}

// allowOnly returns ALLOW when the argument at offset is one of the values, else the
// error; it always returns.
func (f *filter) allowOnly(offset uint32, values []uint32, errno unix.Errno) {
	f.load(offset)
	for _, v := range values {
		f.returnIf(bpf.JumpEqual, v, seccompAllow)
	}
	f.code = append(f.code, bpf.RetConstant{Val: seccompErrno | uint32(errno)})
}

func (f *filter) allow() { f.code = append(f.code, bpf.RetConstant{Val: seccompAllow}) }

// systemCallFilter is the filter for an architecture (AUDIT_ARCH_*). x32 says that
// numbers with bit 30 are another interface of the same architecture (amd64).
// sharedGroup says that the command is in egret's process group, see checkGroup.
func systemCallFilter(arch uint32, x32, sharedGroup bool) ([]byte, error) {
	f := &filter{}
	f.load(offsetArch)
	f.returnIf(bpf.JumpNotEqual, arch, seccompKillProcess) // 32-bit calls have other numbers
	f.load(offsetNumber)
	if x32 {
		f.returnIf(bpf.JumpGreaterOrEqual, 1<<30, seccompErrno|uint32(unix.ENOSYS))
	}
	for _, r := range refusals {
		for _, call := range r.calls {
			f.returnIf(bpf.JumpEqual, call, seccompErrno|uint32(r.errno))
		}
	}
	for _, call := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		f.whenCall(call, (*filter).checkSocket)
	}
	f.whenCall(unix.SYS_IOCTL, func(f *filter) {
		f.load(offsetArg1)
		for _, request := range terminalInjection {
			f.returnIf(bpf.JumpEqual, request, seccompErrno|uint32(unix.EPERM))
		}
		f.allow()
	})
	f.whenCall(unix.SYS_FCNTL, func(f *filter) {
		f.load(offsetArg1)
		for _, command := range leases {
			f.returnIf(bpf.JumpEqual, command, seccompErrno|uint32(unix.EPERM))
		}
		f.allow()
	})
	if sharedGroup {
		f.checkGroup()
	}
	f.whenCall(unix.SYS_CLONE, func(f *filter) {
		f.load(offsetArg0)
		f.returnIf(bpf.JumpBitsSet, unix.CLONE_NEWNS, seccompErrno|uint32(unix.EPERM))
		f.allow()
	})
	f.whenCall(unix.SYS_UNSHARE, func(f *filter) {
		f.load(offsetArg0)
		f.returnIf(bpf.JumpBitsSet, ^uint32(unshareKnown), seccompErrno|uint32(unix.EPERM))
		f.allow()
	})
	f.allow()
	return assemble(f.code)
}

// checkGroup keeps a command from calling on its process group, which a PID namespace
// does not end: egret and the programs beside it in a pipeline or script are in it.
func (f *filter) checkGroup() {
	f.whenCall(unix.SYS_KILL, func(f *filter) {
		f.load(offsetArg0)
		f.returnIf(bpf.JumpNotEqual, 0, seccompAllow)
		f.allowOnly(offsetArg1, suspending, unix.EPERM)
	})
	f.whenCall(unix.SYS_SETPRIORITY, func(f *filter) {
		f.load(offsetArg0)
		f.returnIf(bpf.JumpEqual, unix.PRIO_PGRP, seccompErrno|uint32(unix.EPERM))
		f.allow()
	})
	f.whenCall(unix.SYS_IOPRIO_SET, func(f *filter) {
		f.load(offsetArg0)
		f.returnIf(bpf.JumpEqual, ioprioWhoGroup, seccompErrno|uint32(unix.EPERM))
		f.allow()
	})
}

func (f *filter) checkSocket() {
	f.load(offsetArg0)
	netlink := &filter{}
	netlink.allowOnly(offsetArg2, netlinkProtocols, unix.EPROTONOSUPPORT)
	f.code = append(f.code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_NETLINK, SkipFalse: uint8(len(netlink.code))})
	f.code = append(f.code, netlink.code...)
	f.allowOnly(offsetArg0, families, unix.EAFNOSUPPORT)
}

// assemble gives struct sock_filter after struct sock_filter, in the machine's order.
func assemble(code []bpf.Instruction) ([]byte, error) {
	raw, err := bpf.Assemble(code)
	if err != nil {
		return nil, fmt.Errorf("assemble system call filter: %w", err)
	}
	var b []byte
	for _, i := range raw {
		b = binary.NativeEndian.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b, nil
}
