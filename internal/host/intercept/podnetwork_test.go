package intercept

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come; it ends a test that fails.
const patience = 5 * time.Second

// podNetwork is two network namespaces, a pod's and the world's, and a link between them.
type podNetwork struct{ pod, world *os.File }

func newPodNetwork() (*podNetwork, error) {
	runtime.LockOSThread() // for good: the thread stays in the world
	world, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	pod, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	n := &podNetwork{pod: pod, world: world}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "eth0"
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: "pod0", PeerNamespace: netlink.NsFd(int(world.Fd()))}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if err := errors.Join(setUp("lo"), setUp("eth0", podAddress+"/24", podAddress6+"/64"), route(worldAddress), enter(world)); err != nil {
		return nil, err
	}
	return n, errors.Join(setUp("lo"), setUp("pod0", worldAddress+"/24", worldAddress6+"/64", "198.51.100.9/24"))
}

func enter(namespace *os.File) error {
	return unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
}

func setUp(name string, addresses ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		at, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		at.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, at); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func route(gateway string) error {
	return netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: netip.MustParseAddr(gateway).AsSlice()})
}

func (n *podNetwork) inWorld(f func() error) error { return f() }

func (n *podNetwork) inPod(f func() error) error {
	return errors.Join(enter(n.pod), f(), enter(n.world))
}

// serve starts everybody who listens; they end with the process.
func (n *podNetwork) serve() error {
	original := func(name string) func(net.Conn) string {
		return func(c net.Conn) string {
			to, err := OriginalDestination(c)
			if err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%s %s", name, to)
		}
	}
	from := func(c net.Conn) string {
		return "application from " + netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap().String()
	}
	named := func(name string) func(net.Conn) string { return func(net.Conn) string { return name } }
	return errors.Join(
		n.inPod(func() error {
			// The owner of a socket is the file system's user of the thread that makes it.
			if err := unix.Setfsuid(proxy); err != nil {
				return err
			}
			defer func() { _ = unix.Setfsuid(0) }()
			return errors.Join(
				serveLine(":15001", original("outbound")), serveLine(":15006", original("inbound")),
				serveLine(":8080", from), serveLine(":15021", from),
				serveLine("127.0.0.1:15053", named("names")), answer("127.0.0.1:15053", "names"))
		}),
		serveLine(":8443", named("world")), serveLine(":9000", named("world")), answer(":53", "world"), answer(":8443", "world"))
}

// serveLine answers each connection with one line.
func serveLine(at string, text func(net.Conn) string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte(text(c)))
				_, _ = c.Read(make([]byte, 16))
				_ = c.Close()
			}()
		}
	}()
	return nil
}

// answer answers each datagram.
func answer(at, text string) error {
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 512)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(text), from)
		}
	}()
	return nil
}
