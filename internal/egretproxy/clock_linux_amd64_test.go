package egretproxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// jumpingEnv is set in the process that becomes a program with a clock that jumps.
const jumpingEnv = "EGRET_CLOCK_INSIDE"

// jumping is a running program, and how far its time of day is off.
//
// Linux has no namespace for CLOCK_REALTIME, and the machine's clock is not a test's to
// set. So the program is traced: its vDSO is hidden from it at its exec (getauxval(3),
// AT_SYSINFO_EHDR), by which it asks the kernel for the time of day, and a seccomp filter
// hands these calls, and only these, to the tracer, which answers (ptrace(2),
// PTRACE_EVENT_SECCOMP). CLOCK_MONOTONIC is the kernel's.
type jumping struct {
	off atomic.Int64 // seconds
	out string       // the file that it writes to
}

// spawnJumping starts this test binary as another program; the test ends it.
func spawnJumping(t *testing.T, program string, args ...string) *jumping {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	j := &jumping{out: filepath.Join(t.TempDir(), "out")}
	out, err := os.Create(j.out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	pidfd := -1
	started, traced := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread is the tracer; it ends with this goroutine
		_, err := syscall.ForkExec(self, append([]string{self, "-test.run", "^" + t.Name() + "$", "--", program}, args...), &syscall.ProcAttr{
			Env:   append(os.Environ(), jumpingEnv+"=1"),
			Files: []uintptr{0, out.Fd(), out.Fd()},
			Sys:   &syscall.SysProcAttr{Ptrace: true, PidFD: &pidfd},
		})
		started <- err
		if err == nil {
			traced <- j.trace()
		}
	}()
	if err := <-started; errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		t.Skipf("no process may be traced here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
			t.Errorf("the program did not last: %v", err)
		}
		if err := <-traced; err != nil {
			t.Errorf("tracing: %v", err)
		}
		_ = unix.Close(pidfd)
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", program, j.said(t, max(0, j.size(t)-4096)))
		}
	})
	return j
}

// becomeJumping puts the filter on this thread and makes the process the program that its
// arguments name. It does not return.
func becomeJumping(t *testing.T, args []string) {
	runtime.LockOSThread()
	filter := []unix.SockFilter{ // struct seccomp_data: nr at 0, arch at 4, args[0] at 16
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AUDIT_ARCH_X86_64, Jf: 5},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.CLOCK_REALTIME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_TRACE},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Fatal(syscall.Exec("/proc/self/exe", args, os.Environ()))
}

// trace answers for the clock until the program has ended.
func (j *jumping) trace() error {
	for first := true; ; {
		var status unix.WaitStatus
		// Children of other threads, which other tests have, are not waited for.
		pid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case errors.Is(err, unix.EINTR) || err == nil && !status.Stopped():
			continue
		case err != nil:
			return err
		}
		if first {
			first = false
			err = unix.PtraceSetOptions(pid, unix.PTRACE_O_EXITKILL|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACESECCOMP)
		}
		pass := 0
		switch stop := status.StopSignal(); {
		case status.TrapCause() == unix.PTRACE_EVENT_EXEC:
			err = hideVDSO(pid)
		case status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			err = j.tell(pid)
		case stop != unix.SIGTRAP && stop != unix.SIGSTOP: // those are the tracing's own
			pass = int(stop)
		}
		if err == nil {
			err = unix.PtraceCont(pid, pass)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // a thread that was killed meanwhile
			return err
		}
	}
}

// tell does what a thread asks of clock_gettime(2), in the kernel's place.
func (j *jumping) tell(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	now := time.Now()
	timespec := binary.LittleEndian.AppendUint64(nil, uint64(now.Unix()+j.off.Load()))
	timespec = binary.LittleEndian.AppendUint64(timespec, uint64(now.Nanosecond()))
	if _, err := unix.PtracePokeData(pid, uintptr(regs.Rsi), timespec); err != nil {
		return err
	}
	regs.Orig_rax, regs.Rax = ^uint64(0), 0 // no call, and its result
	return unix.PtraceSetRegs(pid, &regs)
}

// hideVDSO takes the vDSO out of the auxiliary vector of a program that starts: its stack
// holds argc, argv, NULL, envp, NULL and pairs of type and value (System V ABI, AMD64, 3.4.1).
func hideVDSO(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	at, word := int64(regs.Rsp), make([]byte, 8)
	next := func() uint64 {
		if err == nil {
			_, err = mem.ReadAt(word, at)
			at += 8
		}
		return binary.LittleEndian.Uint64(word)
	}
	at += 8 * (int64(next()) + 1)
	for err == nil && next() != 0 {
		continue // over the environment
	}
	for err == nil {
		const sysinfoEHDR = 33
		switch next() {
		case sysinfoEHDR:
			_, err = mem.WriteAt(make([]byte, 8), at)
			return err
		case 0:
			return errors.New("the program has no vDSO")
		}
		next()
	}
	return err
}

// size is how much the program has said so far.
func (j *jumping) size(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(j.out)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// said is what the program said from there on.
func (j *jumping) said(t *testing.T, from int64) string {
	t.Helper()
	b, err := os.ReadFile(j.out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[from:])
}
