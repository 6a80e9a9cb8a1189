package sandbox

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/host/netns"
	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// plan is everything the stages need.
type plan struct {
	outer, inner []byte
	stdio        [3]*os.File
	null         *os.File
}

func (p *plan) close() {
	if p.null != nil {
		_ = p.null.Close()
	}
}

func planAll(spec *Spec) (*plan, error) {
	if err := complete(spec); err != nil {
		return nil, err
	}
	p := &plan{}
	if err := p.chooseStdio(spec); err != nil {
		p.close()
		return nil, err
	}
	mounts, err := planMounts(spec, gather(spec, p.stdio))
	if err != nil {
		p.close()
		return nil, err
	}
	requests, err := networkRequests()
	if err != nil {
		p.close()
		return nil, err
	}
	outer := stage.Outer{
		UID: os.Geteuid(), GID: os.Getegid(),
		Requests: requests,
		Sysctls: []stage.Sysctl{
			// ping(8) works without privileges, so that its packets are refused with a report.
			{Path: "/proc/sys/net/ipv4/ping_group_range", Value: "0 0"},
			// Ports below 1024 are the sandbox's own; there is no capability to bind them.
			{Path: "/proc/sys/net/ipv4/ip_unprivileged_port_start", Value: "0"},
		},
		Sockets:   listeningSockets(),
		PacketLog: intercept.PacketLogRequests(packetLogGroup),
		Mounts:    mounts,
	}
	inner := stage.Inner{Path: spec.Path, Args: spec.Args, Env: spec.Env, Dir: spec.Dir, OwnGroup: !onTerminal()}
	if !spec.withoutFilter {
		if inner.Seccomp, err = systemCallFilter(auditArch, hasX32, !inner.OwnGroup); err != nil {
			p.close()
			return nil, err
		}
	}
	p.outer, p.inner = outer.Encode(), inner.Encode()
	return p, nil
}

// onTerminal says whether this process has a controlling terminal. Then the command
// must be in its process group, so that the terminal and the shell outside treat both as
// one job; else it gets a group of its own, and so cannot signal the one outside.
func onTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	_ = tty.Close()
	return true
}

// complete fills in what the spec leaves open.
func complete(spec *Spec) error {
	if len(spec.Args) == 0 {
		return &CommandError{Err: fmt.Errorf("no command: %w", unix.ENOENT)}
	}
	if spec.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("find the working directory: %w", err)
		}
		spec.Dir = dir
	}
	dir, err := filepath.Abs(spec.Dir)
	if err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	spec.Dir = dir
	path, err := lookPath(spec.Path, spec.Dir, spec.Env)
	if err != nil {
		return &CommandError{Err: err}
	}
	spec.Path = path
	return nil
}

// lookPath finds a program as execvp(3) does.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	notExecutable := false
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		candidate := filepath.Join(folder, name)
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
		notExecutable = true
	}
	if notExecutable {
		return "", fmt.Errorf("%q is not executable: %w", name, unix.EACCES)
	}
	return "", notInPath(name)
}

func (p *plan) chooseStdio(spec *Spec) error {
	for i, f := range []*os.File{spec.Stdin, spec.Stdout, spec.Stderr} {
		if f == nil {
			if p.null == nil {
				null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				p.null = null
			}
			f = p.null
		}
		if err := checkStdio([]string{"standard input", "standard output", "standard error"}[i], f, spec.ReadOnly); err != nil {
			return err
		}
		p.stdio[i] = f
	}
	return nil
}

// networkRequests set up an empty network namespace.
func networkRequests() ([]netns.Request, error) {
	rules := Rules()
	batch, err := rules.Batch(false)
	if err != nil {
		return nil, err
	}
	rules.LogRate = 0
	silent, err := rules.Batch(false)
	if err != nil {
		return nil, err
	}
	// The rules come before the routes: nothing is ever let through.
	capture := netns.Request{Name: "capture the network", Protocol: unix.NETLINK_NETFILTER, Data: batch, Fallback: silent}
	return append([]netns.Request{capture}, intercept.Loopback(address4, address6)...), nil
}

// Rules is the packet filter of a sandbox.
func Rules() intercept.Ruleset {
	return intercept.Ruleset{
		Table: "egret",
		Local: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.PrefixFrom(address4, 32),
			netip.PrefixFrom(netip.IPv6Loopback(), 128), netip.PrefixFrom(address6, 128),
		},
		TCPPort: intercept.TCPPort, DNSPort: intercept.DNSPort,
		LogGroup: packetLogGroup, LogRate: packetLogRate,
	}
}

// gather looks at the machine for the mount plan.
func gather(spec *Spec, stdio [3]*os.File) facts {
	f := facts{view: machine{}, uid: os.Geteuid(), terminal: terminal(stdio)}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		f.mounts = parseMounts(string(text))
	}
	// Process 1 may be in another network namespace than this process, which then does
	// not list the sockets of the machine's services.
	for _, path := range []string{"/proc/self/net/unix", "/proc/1/net/unix"} {
		if text, err := os.ReadFile(path); err == nil {
			f.sockets = append(f.sockets, parseUnixSockets(string(text))...)
		}
	}
	f.sockets = append(f.sockets, pathsInEnvironment(spec.Env)...)
	slices.Sort(f.sockets)
	f.sockets = slices.Compact(f.sockets)
	return f
}

// terminal is the terminal that the command is given, "" for none.
func terminal(stdio [3]*os.File) string {
	for _, f := range stdio {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
			continue
		}
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err == nil && (machine{}).kind(path) == device {
			return path
		}
	}
	return ""
}

// Address is the command's own IPv4 address in its namespace, besides 127.0.0.1.
func Address() netip.Addr { return address4 }

// notInPath names a command that no folder of PATH has.
type notInPath string

func (n notInPath) Error() string { return fmt.Sprintf("%q was not found in PATH", string(n)) }
func (notInPath) Unwrap() error   { return unix.ENOENT }
