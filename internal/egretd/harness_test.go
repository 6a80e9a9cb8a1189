package egretd_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/runtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// startPlane runs egretd over a folder until the test ends, and gives its address.
func startPlane(t *testing.T, dir string) string {
	t.Helper()
	address, _ := servePlane(t, dir, "127.0.0.1:0")
	return address
}

// servePlane runs egretd at an address until stop, or the end of the test.
func servePlane(t *testing.T, dir, at string) (address string, stop func()) {
	t.Helper()
	listening := make(chan string, 1)
	failed := make(chan struct{})
	o := egretd.Options{
		Paths: []string{dir}, XDSAddress: at, Logger: runtest.Logger(t, "egretd"),
		Listening: func(xds, _, _ net.Addr) { listening <- xds.String() },
	}
	stop = runtest.Run(t, "egretd", func(ctx context.Context) error {
		defer close(failed)
		return egretd.Run(ctx, o)
	})
	select {
	case address = <-listening:
	case <-failed:
		t.Fatal("egretd did not start")
	}
	return address, stop
}
