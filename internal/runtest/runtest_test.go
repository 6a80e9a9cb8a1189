package runtest_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/egret-mesh/egret/internal/runtest"
)

// Ports are different as long as they are held, can be listened on, and are given back.
func TestFreeAddress(t *testing.T) {
	seen := map[netip.AddrPort]bool{}
	t.Run("held", func(t *testing.T) {
		for range 200 {
			at := runtest.FreeAddress(t)
			if seen[at] {
				t.Errorf("%s was given twice", at)
			}
			seen[at] = true
			ln, err := net.Listen("tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = ln.Close()
		}
	})
	for at := range seen {
		hold, err := net.Listen("unix", "@egret-test-port-"+at.String()[len("127.0.0.1:"):])
		if err != nil {
			t.Fatalf("%s is still held: %v", at, err)
		}
		_ = hold.Close()
	}
}
