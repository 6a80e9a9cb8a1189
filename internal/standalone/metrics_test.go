package standalone

import (
	"net/netip"
	"testing"
)

func TestListenMetrics(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.0.0.2:0", "localhost:0", ":0"} {
		ln, err := listenMetrics(address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		if at := netip.MustParseAddrPort(ln.Addr().String()); !at.Addr().IsLoopback() {
			t.Errorf("%q: listens on %v", address, at)
		}
		if again, err := listenMetrics(ln.Addr().String()); err == nil {
			_ = again.Close()
			t.Errorf("%q: the port is taken twice", address)
		}
		_ = ln.Close()
	}
	for _, address := range []string{"", "15090", "127.0.0.1", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1"} {
		if ln, err := listenMetrics(address); err == nil {
			_ = ln.Close()
			t.Errorf("%q was taken", address)
		}
	}
}
