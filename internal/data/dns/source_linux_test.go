package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// TestAnswersComeFromTheAddressAsked: on a socket for any address the answer's source
// is the address that was asked, not the one that the kernel would choose. Otherwise
// redirected questions would get no answer. The socket is bound to the device lo.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }); cerr != nil {
			return cerr
		}
		return err
	}}
	for _, network := range []string{"udp4", "udp"} {
		pc, err := lc.ListenPacket(t.Context(), network, ":0")
		if err != nil {
			t.Skipf("no socket bound to lo: %v", err)
		}
		src := &source{}
		src.set(registry...)
		s := New(Options{Source: src})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.ServePacket(ctx, pc); err != nil {
				t.Error(err)
			}
		})
		port := pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		for _, to := range []string{"127.0.0.1", "127.0.0.2"} {
			// A connected client takes no answer from another address.
			m := ask(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(to), port).String(), question("www.example.com", mdns.TypeA))
			if got := show(m); got != "NOERROR 240.240.0.1/30" {
				t.Errorf("%s %s: %s", network, to, got)
			}
		}
		cancel()
		wg.Wait()
	}
}
