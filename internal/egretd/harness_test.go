package egretd_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/egretd"
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
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- egretd.Run(ctx, egretd.Options{
			Paths: []string{dir}, XDSAddress: at,
			Logger:    slog.New(slog.NewTextHandler(testWriter{t}, nil)),
			Listening: func(xds, _, _ net.Addr) { listening <- xds.String() },
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("egretd: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case address = <-listening:
		return address, stop
	case err := <-ended:
		ended <- nil
		t.Fatalf("egretd did not start: %v", err)
		return "", nil
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
