package runtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
)

// FreeAddress is a port on loopback that nothing listens on, over TCP or UDP, and that is
// this test's until it ends: for what is told its port instead of telling it, and what
// listens again where it did before.
//
// A port that the kernel gave a moment ago would not do: it gives it to the next connection
// of whatever runs beside. So the port is below those that the kernel gives, and is held
// against other tests by an abstract socket of its name, which goes with the process.
func FreeAddress(t testing.TB) netip.AddrPort {
	t.Helper()
	first, end, err := ownPorts()
	if err != nil {
		t.Fatal(err)
	}
	n := end - first
	for i, from := 0, rand.IntN(n); i < n; i++ {
		port := first + (from+i)%n
		hold, err := net.Listen("unix", fmt.Sprintf("@egret-test-port-%d", port))
		if err != nil {
			continue // another test's
		}
		if !unused(port) {
			_ = hold.Close()
			continue
		}
		t.Cleanup(func() { _ = hold.Close() })
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// ownPorts are the ports that the kernel gives to nobody who did not ask for them: first to
// end, without end. The programs' own default ports are not among them.
func ownPorts() (first, end int, err error) {
	const least, some = 16000, 1000
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(text), &end); err != nil {
		return 0, 0, fmt.Errorf("the range of the kernel's ports is %q: %w", text, err)
	}
	if end-least < some {
		return 0, 0, fmt.Errorf("the kernel gives ports from %d on: none are left for tests", end)
	}
	return least, end, nil
}

// unused says that a port can be listened on, on all addresses.
func unused(port int) bool {
	at := fmt.Sprintf(":%d", port)
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	udp, err := net.ListenPacket("udp", at)
	if err == nil {
		err = udp.Close()
	}
	return errors.Join(err, tcp.Close()) == nil
}
