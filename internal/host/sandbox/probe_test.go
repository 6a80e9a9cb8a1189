package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/host/netns"
)

// probe runs in the sandbox. It tries things and prints "what: outcome" lines, where
// the outcome is "ok" or the name of the error.
func probe(args []string) int {
	probes := map[string]func([]string){
		"dial": probeDial, "dns": probeDNS, "udp": probeUDP, "ping": probePing, "families": probeFamilies, "network": probeNetwork,
		"nested-network": probeNestedNetwork, "nested-dial": probeDial, "processes": probeProcesses, "namespaces": probeNamespaces,
		"write": probeWrite, "mounts": probeMounts, "kernel": probeKernel, "unix": probeUnix, "local": probeLocal,
		"identity": probeIdentity, "open": probeOpen, "calls": probeCalls, "inject": probeInject,
		"resolver": probeResolver, "fd-rename": probeFDRename, "group": probeGroup, "lease": probeLease,
	}
	args = slices.DeleteFunc(args, func(a string) bool { return a == "probe" })
	switch args[0] {
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "job":
		continued := make(chan os.Signal, 1)
		signal.Notify(continued, unix.SIGCONT)
		fmt.Println("job: started")
		<-continued
		fmt.Println("job: continued")
		select {}
	case "hang":
		fmt.Println("hang: yes")
		select {}
	case "kill-self":
		number, _ := strconv.Atoi(args[1])
		_ = unix.Kill(os.Getpid(), unix.Signal(number))
		select {}
	}
	probes[args[0]](args[1:])
	return 0
}

func say(what string, err error) { fmt.Printf("%s: %s\n", what, outcome(err)) }

func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func probeDial(addresses []string) {
	for _, a := range addresses {
		c, err := net.DialTimeout("tcp", a, 5*time.Second)
		if err != nil {
			say(a, err)
			continue
		}
		answer, err := io.ReadAll(c)
		if err != nil {
			say(a, err)
		} else {
			fmt.Printf("%s: %s\n", a, answer)
		}
		_ = c.Close()
	}
}

func probeDNS(addresses []string) {
	for _, a := range addresses {
		c, err := net.Dial("udp", a)
		if err != nil {
			say(a, err)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Write([]byte("question"))
		buf := make([]byte, 100)
		n := 0
		if err == nil {
			n, err = c.Read(buf)
		}
		if err != nil {
			say(a, err)
		} else {
			fmt.Printf("%s: %s\n", a, buf[:n])
		}
		_ = c.Close()
	}
}

func probeUDP(addresses []string) {
	for _, a := range addresses {
		c, err := net.Dial("udp", a)
		if err == nil {
			_, err = c.Write([]byte("hello"))
			_ = c.Close()
		}
		say(a, err)
	}
}

func probePing(addresses []string) {
	for _, a := range addresses {
		address := netip.MustParseAddr(a)
		family, proto, echo := unix.AF_INET, unix.IPPROTO_ICMP, byte(8)
		var to unix.Sockaddr = nil
		if address.Is4() {
			to = &unix.SockaddrInet4{Addr: address.As4()}
		} else {
			family, proto, echo = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128
			to = &unix.SockaddrInet6{Addr: address.As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, proto)
		if err == nil {
			err = unix.Sendto(fd, []byte{echo, 0, 0, 0, 0, 0, 0, 1}, 0, to)
		}
		say(a, err)
	}
}

func probeFamilies([]string) {
	for _, f := range []struct {
		name               string
		family, kind, prot int
	}{
		{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0},
		{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"raw4", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		{"raw6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, 0},
		{"route", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
		{"netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
	} {
		fd, err := unix.Socket(f.family, f.kind, f.prot)
		if err == nil {
			_ = unix.Close(fd)
		}
		say(f.name, err)
	}
}

// probeNetwork tries to change the network.
func probeNetwork([]string) {
	empty := intercept.Ruleset{Table: "egret"}
	say("replace rules", empty.Apply())
	for _, r := range intercept.Loopback(netip.MustParseAddr("198.51.100.1")) {
		say(r.Name, netns.Exchange(r.Protocol, r.Data))
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1)
	}
	say("mark", err)
	say("transparent", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
	say("bind to device", unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"))
}

// probeNestedNetwork makes further user and network namespaces, where it is root.
func probeNestedNetwork([]string) {
	cmd := exec.Command("/proc/self/exe", "probe", "nested-dial", "192.0.2.1:80")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	say("nested", err)
	fmt.Printf("%s", out)
}

// probeProcesses gets process numbers of outside.
func probeProcesses(pids []string) {
	say("trace init", unix.PtraceAttach(1))
	_, err := os.Readlink("/proc/1/fd/3")
	say("files of init", err)
	_, err = os.Open("/proc/1/root/etc/passwd")
	say("root of init", err)
	_, err = os.Open("/proc/1/mem")
	say("memory of init", err)
	say("kill init", unix.Kill(1, unix.SIGKILL))
	if fd, err := unix.PidfdOpen(1, 0); err == nil {
		_, err = unix.PidfdGetfd(fd, 3, 0)
		say("take file of init", err)
	}
	for _, text := range pids {
		pid, _ := strconv.Atoi(text)
		_, err := os.Stat("/proc/" + text)
		say("see", err)
		say("signal", unix.Kill(pid, 0))
		say("trace", unix.PtraceAttach(pid))
		_, err = unix.PidfdOpen(pid, 0)
		say("pidfd", err)
	}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	fmt.Printf("processes: %d\n", len(entries))
}

func probeNamespaces([]string) {
	for _, kind := range []string{"user", "net", "mnt", "pid"} {
		fd, err := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Setns(fd, 0)
		}
		say("enter "+kind+" of init", err)
		fd, err = unix.Open("/proc/self/ns/"+kind, unix.O_RDONLY, 0)
		if err != nil {
			say("own "+kind, err)
			continue
		}
		_, err = unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
		if kind == "user" {
			_, err = unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		}
		say("owner of "+kind, err)
		say("enter own "+kind, unix.Setns(fd, 0))
	}
}

// probeWrite tries to change a file or folder by every means.
func probeWrite(paths []string) {
	for i, path := range paths {
		n := strconv.Itoa(i) + " "
		fd, err := unix.Open(path, unix.O_WRONLY, 0)
		if err == unix.EISDIR {
			fd, err = unix.Open(filepath.Join(path, "new"), unix.O_WRONLY|unix.O_CREAT, 0o644)
		}
		if err == nil {
			_, err = unix.Write(fd, []byte("changed"))
		}
		say(n+"write", err)
		say(n+"truncate", unix.Truncate(path, 0))
		say(n+"rename", unix.Rename(path, path+".away"))
		say(n+"rename over", renameOver(path))
		say(n+"link", unix.Link(path, path+".link"))
		say(n+"chmod", unix.Chmod(path, 0o777))
		say(n+"remove", os.RemoveAll(path))
		say(n+"rename parent", unix.Rename(filepath.Dir(path), filepath.Dir(path)+".away"))
		say(n+"rename grandparent", unix.Rename(filepath.Dir(filepath.Dir(path)), filepath.Dir(filepath.Dir(path))+".away"))
	}
}

func renameOver(path string) error {
	other := filepath.Join(filepath.Dir(path), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		return err
	}
	return unix.Rename(other, path)
}

// probeMounts tries to undo the protection of a path with mounts, also as root of a
// nested user namespace.
func probeMounts(args []string) {
	path, inside := args[0], len(args) > 1
	prefix := map[bool]string{true: "nested "}[inside]
	say(prefix+"remount", unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	say(prefix+"unmount", unix.Unmount(path, 0))
	say(prefix+"detach", unix.Unmount(path, unix.MNT_DETACH))
	target, _ := os.MkdirTemp("", "probe")
	say(prefix+"bind parent", unix.Mount(filepath.Dir(path), target, "", unix.MS_BIND, ""))
	say(prefix+"write through", os.WriteFile(filepath.Join(target, filepath.Base(path), "new"), nil, 0o644))
	_ = os.Remove(target)
	fd, err := unix.OpenTree(unix.AT_FDCWD, filepath.Dir(path), unix.OPEN_TREE_CLONE)
	if err == nil {
		_, err = unix.Openat(fd, filepath.Base(path)+"/new", unix.O_CREAT|unix.O_WRONLY, 0o644)
	}
	say(prefix+"clone tree", err)
	say(prefix+"write", os.WriteFile(filepath.Join(path, "new"), nil, 0o644))
	if inside {
		return
	}
	cmd := exec.Command("/proc/self/exe", "probe", "mounts", path, "nested")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE},
	}
	out, err := cmd.CombinedOutput()
	say("nested", err)
	fmt.Printf("%s", out)
}

// probeFDRename renames a folder above a protected one through a file descriptor.
func probeFDRename(args []string) {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	say("open", err)
	say("rename", unix.Renameat(fd, args[1], fd, args[1]+".away"))
}

func probeKernel([]string) {
	for _, path := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
		"/proc/sys/net/ipv4/ping_group_range", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/power/state",
	} {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_ = f.Close()
		}
		say(path, err)
	}
}

func probeUnix(paths []string) {
	for _, path := range paths {
		c, err := net.DialTimeout("unix", path, 5*time.Second)
		if err == nil {
			_ = c.Close()
		}
		say(path, err)
	}
}

// probeLocal runs a server of the command's own.
func probeLocal(addresses []string) {
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			say(a, err)
			continue
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write([]byte("own"))
				_ = c.Close()
			}
		}()
		fmt.Printf("listen %s: ok\n", a)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		host, _, _ := net.SplitHostPort(a)
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err == nil {
			answer, _ := io.ReadAll(c)
			fmt.Printf("%s: %s\n", a, answer)
			_ = c.Close()
		} else {
			say(a, err)
		}
		_ = l.Close()
	}
}

func probeIdentity([]string) {
	dir, _ := os.Getwd()
	fmt.Printf("uid: %d\ngid: %d\ndir: %s\nvalue: %s\n", os.Getuid(), os.Getgid(), dir, os.Getenv("VALUE"))
	input, err := io.ReadAll(os.Stdin)
	fmt.Printf("stdin: %s\n", input)
	say("read stdin", err)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(line, ":"); ok && (strings.HasPrefix(name, "Cap") || name == "NoNewPrivs") {
			fmt.Printf("%s: %s\n", name, strings.TrimSpace(value))
		}
	}
}

func probeOpen(paths []string) {
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK, 0)
		if err == unix.EISDIR {
			fd, err = unix.Open(path, unix.O_RDONLY, 0)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
		say(path, err)
	}
}

// probeCalls makes system calls that the filter refuses.
func probeCalls([]string) {
	for _, c := range []struct {
		name string
		call uintptr
		args [3]uintptr
	}{
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [3]uintptr{1}},
		{"keyctl", unix.SYS_KEYCTL, [3]uintptr{0, 0xfffffffd}},
		{"bpf", unix.SYS_BPF, [3]uintptr{}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [3]uintptr{}},
		{"clone3", unix.SYS_CLONE3, [3]uintptr{}},
		{"unshare mount", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWNS}},
		{"mknod", unix.SYS_MKNODAT, [3]uintptr{}},
	} {
		_, _, errno := unix.Syscall(c.call, c.args[0], c.args[1], c.args[2])
		say(c.name, errnoOrNil(errno))
	}
	say("mknod", unix.Mknod("/dev/shm/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))))
}

func errnoOrNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// probeGroup signals its process group, and makes it slow.
func probeGroup([]string) {
	signal.Ignore(unix.SIGUSR2)
	say("nice", unix.Setpriority(unix.PRIO_PGRP, 0, 19))
	say("user signal", unix.Kill(0, unix.SIGUSR2))
	say("kill", unix.Kill(0, unix.SIGKILL))
}

// probeLease takes a lease on a file: who opens it has to wait until it is given back.
func probeLease(paths []string) {
	fd, err := unix.Open(paths[0], unix.O_RDONLY, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	}
	say("lease", err)
}

// probeInject puts input into its terminal.
func probeInject([]string) {
	c := byte('x')
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(pointer(&c)))
	say("TIOCSTI", errnoOrNil(errno))
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, 0, tiocLinux, uintptr(pointer(&c)))
	say("TIOCLINUX", errnoOrNil(errno))
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	say("tty", err)
	if err == nil {
		_ = tty.Close()
	}
}

func probeResolver([]string) {
	text, err := os.ReadFile("/etc/resolv.conf")
	say("read", err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Printf("%s: %s\n", name, value)
	}
}
