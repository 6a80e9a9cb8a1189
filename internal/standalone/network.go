package standalone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/data/upstream"
)

// Addresses of the mesh on one machine. They are of a reserved range (RFC 1112,
// section 4), exist only in this process, and so can be no machine's.
var (
	gatewayServiceAddress = netip.MustParseAddr("240.243.0.1")
	gatewayAddress        = netip.MustParseAddr("240.243.0.2")
	insidePrefix          = netip.MustParsePrefix("240.243.0.0/16")
)

// network connects the proxies of this process with each other, by socket pairs:
// no port of the egress gateway is open on the machine, so nobody else can use it.
// Every other address is dialled outside.
type network struct {
	outside upstream.NetDialer

	mu        sync.Mutex
	listeners map[netip.AddrPort]*insideListener
	nextPort  uint16 // of the connecting side
}

func newNetwork() *network {
	return &network{listeners: map[netip.AddrPort]*insideListener{}, nextPort: 32768}
}

// listen opens an address inside. It is an error to open one twice.
func (n *network) listen(at netip.AddrPort) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[at] != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, unix.EADDRINUSE)
	}
	l := &insideListener{network: n, at: at, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[at] = l
	return l, nil
}

// DialContext connects to an address inside or outside.
func (n *network) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !insidePrefix.Contains(to.Addr()) {
		return n.outside.DialContext(ctx, kind, address)
	}
	n.mu.Lock()
	l := n.listeners[to]
	n.nextPort = max(n.nextPort+1, 32768)
	from := netip.AddrPortFrom(gatewayServiceAddress, n.nextPort)
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: kind, Addr: net.TCPAddrFromAddrPort(to), Err: unix.ECONNREFUSED}
	}
	near, far, err := socketPair(from, to)
	if err != nil {
		return nil, err
	}
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		err = unix.ECONNREFUSED
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = near.Close()
	_ = far.Close()
	return nil, &net.OpError{Op: "dial", Net: kind, Addr: net.TCPAddrFromAddrPort(to), Err: err}
}

// DialFrom connects from an address; inside there is nothing to choose.
func (n *network) DialFrom(ctx context.Context, source netip.Addr, kind, address string) (net.Conn, error) {
	if to, err := netip.ParseAddrPort(address); err == nil && insidePrefix.Contains(to.Addr()) {
		return n.DialContext(ctx, kind, address)
	}
	return n.outside.DialFrom(ctx, source, kind, address)
}

type insideListener struct {
	network *network
	at      netip.AddrPort
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *insideListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *insideListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		if l.network.listeners[l.at] == l {
			delete(l.network.listeners, l.at)
		}
	})
	return nil
}

func (l *insideListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// insideConn is one end of a connection inside, with the addresses of the mesh.
type insideConn struct {
	*net.UnixConn
	local, remote net.Addr
}

// Plain is the connection as the kernel can splice it.
func (c *insideConn) Plain() net.Conn { return c.UnixConn }

func (c *insideConn) LocalAddr() net.Addr  { return c.local }
func (c *insideConn) RemoteAddr() net.Addr { return c.remote }

func socketPair(from, to netip.AddrPort) (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a, errA := unixConn(fds[0])
	b, errB := unixConn(fds[1])
	if errA != nil || errB != nil {
		for _, c := range []*net.UnixConn{a, b} {
			if c != nil {
				_ = c.Close()
			}
		}
		return nil, nil, fmt.Errorf("socket pair: %w, %w", errA, errB)
	}
	fromAddr, toAddr := net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to)
	return &insideConn{a, fromAddr, toAddr}, &insideConn{b, toAddr, fromAddr}, nil
}

// unixConn takes over fd.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "inside")
	defer func() { _ = f.Close() }() // FileConn has its own duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("a socket pair gave a %T", c)
	}
	return u, nil
}
