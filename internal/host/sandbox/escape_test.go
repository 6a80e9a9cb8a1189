package sandbox

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func pointer(b *byte) unsafe.Pointer { return unsafe.Pointer(b) }

func TestTCPIsCapturedWithItsDestination(t *testing.T) {
	r := run(t, probing(t, "dial", "93.184.216.34:80", "169.254.169.254:80", "[2001:db8::1]:443", "10.0.0.1:15001"))
	check(t, r, map[string]string{
		"93.184.216.34:80":   "93.184.216.34:80 at 127.0.0.1:15001",
		"169.254.169.254:80": "169.254.169.254:80 at 127.0.0.1:15001",
		"[2001:db8::1]:443":  "[2001:db8::1]:443 at [::1]:15001",
		"10.0.0.1:15001":     "10.0.0.1:15001 at 127.0.0.1:15001",
	})
	want := []string{"93.184.216.34:80", "169.254.169.254:80", "[2001:db8::1]:443", "10.0.0.1:15001"}
	if diff := cmp.Diff(want, r.tcp); diff != "" {
		t.Errorf("original destinations (-want +got):\n%s", diff)
	}
}

func TestConnectionToTheProxyItselfIsRecognisable(t *testing.T) {
	r := run(t, probing(t, "dial", "127.0.0.1:15001"))
	check(t, r, map[string]string{"127.0.0.1:15001": "127.0.0.1:15001 at 127.0.0.1:15001"})
}

func TestDNSIsCapturedWhereverItIsSent(t *testing.T) {
	servers := []string{"8.8.8.8:53", "192.0.0.2:53", "127.0.0.1:53", "127.0.0.53:53", "[2001:4860:4860::8888]:53", "[::1]:53"}
	r := run(t, probing(t, append([]string{"dns"}, servers...)...))
	want := map[string]string{}
	for _, s := range servers {
		want[s] = "dns question"
	}
	check(t, r, want)
	r = run(t, probing(t, "dial", "8.8.8.8:53", "127.0.0.1:53"))
	check(t, r, map[string]string{
		"8.8.8.8:53":   "8.8.8.8:53 at 127.0.0.1:15053",
		"127.0.0.1:53": "127.0.0.1:53 at 127.0.0.1:15053",
	})
}

func TestOtherPacketsAreRefusedAndReported(t *testing.T) {
	for _, c := range []struct{ probe, to, protocol, want string }{
		{"udp", "93.184.216.34:443", "udp", "93.184.216.34:443"},
		{"udp", "[2001:db8::1]:443", "udp", "[2001:db8::1]:443"},
		{"udp", "169.254.169.254:123", "udp", "169.254.169.254:123"},
		{"ping", "8.8.8.8", "icmp", "8.8.8.8:0"},
		{"ping", "2001:db8::1", "icmpv6", "[2001:db8::1]:0"},
	} {
		t.Run(c.protocol+" "+c.to, func(t *testing.T) {
			r := run(t, probing(t, c.probe, c.to))
			want := "EPERM|EACCES|EHOSTUNREACH"
			if c.protocol == "icmpv6" {
				want += "|ok" // the kernel does not tell the sender of an echo request
			}
			check(t, r, map[string]string{c.to: want})
			found := slices.ContainsFunc(r.packets, func(p PacketDenied) bool {
				return p.ProtocolName() == c.protocol && p.Destination.String() == c.want
			})
			if !found {
				t.Errorf("reported %v, want %s to %s", r.packets, c.protocol, c.want)
			}
		})
	}
}

func TestSocketFamilies(t *testing.T) {
	want := map[string]string{
		"packet": "EAFNOSUPPORT", "vsock": "EAFNOSUPPORT", "bluetooth": "EAFNOSUPPORT", "alg": "EAFNOSUPPORT",
		"raw4": "EPERM", "raw6": "EPERM", "netfilter": "EPROTONOSUPPORT",
		"unix": "ok", "tcp": "ok", "route": "ok",
	}
	check(t, run(t, probing(t, "families")), want)
	t.Run("without the filter", func(t *testing.T) {
		spec := probing(t, "families")
		spec.withoutFilter = true
		check(t, run(t, spec), map[string]string{"packet": "EPERM", "raw4": "EPERM", "raw6": "EPERM"})
	})
}

func TestNetworkCannotBeChanged(t *testing.T) {
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprintf("without filter %v", without), func(t *testing.T) {
			spec := probing(t, "network")
			spec.withoutFilter = without
			r := run(t, spec)
			check(t, r, map[string]string{
				"replace rules": map[bool]string{false: "EPROTONOSUPPORT", true: "EPERM"}[without],
				"set lo up":     "EPERM", "add 198.51.100.1 to lo": "EPERM", "route all to lo from 198.51.100.1": "EPERM",
				"mark": "EPERM", "transparent": "EPERM", "bind to device": "ok|EPERM",
			})
		})
	}
}

func TestNestedNetworkNamespaceLeadsNowhere(t *testing.T) {
	for _, without := range []bool{false, true} {
		spec := probing(t, "nested-network")
		spec.withoutFilter = without
		r := run(t, spec)
		check(t, r, map[string]string{"nested": "ok", "192.0.2.1:80": "ENETUNREACH"})
		if len(r.tcp) > 0 {
			t.Errorf("captured %v", r.tcp)
		}
	}
}

func TestProcessesOutsideAreOutOfReach(t *testing.T) {
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	for _, without := range []bool{false, true} {
		spec := probing(t, "processes", strconv.Itoa(os.Getpid()), strconv.Itoa(other.Process.Pid))
		spec.withoutFilter = without
		r := run(t, spec)
		check(t, r, map[string]string{
			"trace init": "EPERM", "files of init": "EACCES|EPERM", "root of init": "EACCES|EPERM", "memory of init": "EACCES", "take file of init": "EPERM",
			"see": "ENOENT", "signal": "ESRCH", "trace": "ESRCH", "pidfd": "ESRCH", "processes": "2",
			// The kernel drops it: process 1 of a namespace is safe from those in it.
			"kill init": "ok",
		})
	}
}

func TestNamespacesCannotBeEntered(t *testing.T) {
	r := run(t, probing(t, "namespaces"))
	check(t, r, map[string]string{
		"enter user of init": "EACCES", "enter net of init": "EACCES", "enter mnt of init": "EACCES", "enter pid of init": "EACCES",
		"owner of user": "EPERM", "owner of net": "EPERM",
		"enter own net": "EPERM", "enter own mnt": "EPERM", "enter own user": "EINVAL",
	})
}

func TestMachineLoopbackIsOutOfReach(t *testing.T) {
	address := loopbackServer(t)
	check(t, run(t, probing(t, "dial", address)), map[string]string{address: "ECONNREFUSED"})
}

func TestOwnServersWork(t *testing.T) {
	r := run(t, probing(t, "local", "127.0.0.1:8080", "[::1]:8080", "192.0.0.2:0", "127.0.0.1:80"))
	check(t, r, map[string]string{"127.0.0.1:8080": "own", "[::1]:8080": "own", "192.0.0.2:0": "own", "127.0.0.1:80": "own"})
	if len(r.tcp) > 0 {
		t.Errorf("captured %v", r.tcp)
	}
}

func TestSettingsOfTheKernelCannotBeWritten(t *testing.T) {
	for _, without := range []bool{false, true} {
		spec := probing(t, "kernel")
		spec.withoutFilter = without
		r := run(t, spec)
		for path, got := range lines(t, r) {
			if got != "EROFS" && got != "EACCES" && got != "ENOENT" && got != "EPERM" {
				t.Errorf("%s: %s", path, got)
			}
		}
		check(t, r, map[string]string{"/proc/sys/net/ipv4/ip_forward": "EROFS|EACCES"})
	}
}

func TestSystemCallsThatAreRefused(t *testing.T) {
	check(t, run(t, probing(t, "calls")), map[string]string{
		"io_uring_setup": "ENOSYS", "keyctl": "EPERM", "bpf": "EPERM", "userfaultfd": "EPERM", "clone3": "ENOSYS",
		"unshare mount": "EPERM", "mknod": "EPERM",
	})
}

// A lease on the policy would keep egret from reading it, and its author from writing.
func TestLeasesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, run(t, probing(t, "lease", path)), map[string]string{"lease": "EPERM"})
}

// A PID namespace does not end process groups: a signal to one's own group must not
// reach the programs outside. Here there is no terminal, so the command has a group of
// its own, and dies alone of what it sends.
func TestProcessGroupOutsideIsOutOfReach(t *testing.T) {
	needNamespaces(t)
	outside := exec.Command("sh", "-c", `"$@"; echo "outside lives, $?"`, "sh", self(t), "host", self(t), "probe", "group")
	outside.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a group and no terminal
	outside.Env = []string{"PATH=/usr/bin:/bin", "HOME=/"}
	out, err := outside.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "outside lives, 137") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDevices(t *testing.T) {
	paths := []string{"/dev/vda", "/dev/sda", "/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/kvm", "/dev/loop0", "/dev/null", "/dev/urandom", "/dev/ptmx", "/dev/shm", "/dev/fd"}
	want := map[string]string{"/dev/null": "ok", "/dev/urandom": "ok", "/dev/ptmx": "ok", "/dev/shm": "ok", "/dev/fd": "ok"}
	for _, path := range paths {
		if want[path] == "" {
			want[path] = "ENOENT"
		}
	}
	if os.Geteuid() == 0 {
		// A node of a disk that lies elsewhere is of no use either.
		node := filepath.Join(t.TempDir(), "disk")
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))); err == nil {
			paths, want[node] = append(paths, node), "EACCES"
		}
	}
	check(t, run(t, probing(t, append([]string{"open"}, paths...)...)), want)
}

func TestUnixSocketsOfTheMachine(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var paths []string
	for _, path := range []string{filepath.Join(dir, "hidden"), filepath.Join(dir, "asked"), "@" + dir} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		paths = append(paths, path)
	}
	spec := probing(t, append([]string{"unix"}, paths...)...)
	spec.Expose = []string{paths[1]}
	check(t, run(t, spec), map[string]string{paths[0]: "ECONNREFUSED|EACCES", paths[1]: "ok", paths[2]: "ECONNREFUSED"})
}

func TestRunIsHidden(t *testing.T) {
	entries, err := os.ReadDir("/run")
	if err != nil || len(entries) == 0 {
		t.Skip("this machine has nothing in /run")
	}
	spec := probing(t, "open")
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "user" {
			spec.Args = append(spec.Args, "/run/"+e.Name())
		}
	}
	for path, got := range lines(t, run(t, spec)) {
		if got != "ENOENT" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestResolver(t *testing.T) {
	spec := probing(t, "resolver")
	spec.Search, spec.ResolverOptions = []string{"a.example", "example"}, []string{"ndots:2"}
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		t.Skip("this machine has no /etc/resolv.conf")
	}
	check(t, run(t, spec), map[string]string{"nameserver": "192.0.0.2", "search": "a.example example", "options": "ndots:2"})
}
