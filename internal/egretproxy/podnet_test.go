package egretproxy_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
)

// podEnv says that the process is one that inPodNetwork started.
const podEnv = "EGRET_TEST_POD"

const podAddress, worldAddress = "10.244.1.5", "10.244.1.1"

// inPodNetwork runs the test once more, as a process in the network namespace of a pod: with
// a link to a world, and the rules of Istio's init container. It is false in the process
// that only waits for the other one.
func inPodNetwork(t *testing.T) (world *world, here bool) {
	t.Helper()
	return inPodNetworkAs(t, "1337")
}

// inPodNetworkAs has another user as the proxy's. With the test's own its connections are the
// proxies', so that one proxy calls the pod's other one as a pod elsewhere would.
func inPodNetworkAs(t *testing.T, user string) (world *world, here bool) {
	t.Helper()
	if os.Getenv(podEnv) != "" {
		w, err := newWorld()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			close(w.work)
			<-w.ended
		})
		if code := egretproxy.Main([]string{"istio-iptables", "-p", "15001", "-z", "15006", "-u", user, "-m", "REDIRECT",
			"-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"}, os.Stderr, os.Stderr); code != 0 {
			t.Fatalf("istio-iptables: %d", code)
		}
		return w, true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), podEnv+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("in the pod: %v\n%s", err, out)
	}
	return nil, false
}

// world is what is outside the pod: a thread of this process in another namespace.
type world struct {
	work  chan func()
	ended chan struct{}
}

func newWorld() (*world, error) {
	w := &world{work: make(chan func()), ended: make(chan struct{})}
	pod, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() {
		defer close(w.ended)
		runtime.LockOSThread() // for good: the thread stays in the world
		ready <- errors.Join(unix.Unshare(unix.CLONE_NEWNET), link(pod))
		for f := range w.work {
			f()
		}
	}()
	if err := errors.Join(<-ready, up("lo"), up("eth0", podAddress+"/24")); err != nil {
		return nil, err
	}
	return w, netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: netip.MustParseAddr(worldAddress).AsSlice()})
}

// link joins the thread's namespace with the pod's.
func link(pod *os.File) error {
	a := netlink.NewLinkAttrs()
	a.Name = "pod0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(pod.Fd()))}); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	return errors.Join(up("lo"), up("pod0", worldAddress+"/24"))
}

func up(name string, addresses ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// dial connects from the world.
func (w *world) dial(t *testing.T, address string) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	done := make(chan struct{})
	w.work <- func() {
		defer close(done)
		d := net.Dialer{Timeout: runtest.Patience}
		c, err = d.Dial("tcp", address)
	}
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
