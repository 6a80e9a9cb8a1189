package egretd_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/egretd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startPlane runs egretd over a folder until the test ends, and gives its address.
func startPlane(t *testing.T, dir string) string {
	t.Helper()
	at := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- egretd.Run(ctx, egretd.Options{
			Paths: []string{dir}, XDSAddress: "127.0.0.1:0",
			Logger:    slog.New(slog.NewTextHandler(testWriter{t}, nil)),
			Listening: func(xds, _, _ net.Addr) { at <- xds.String() },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("egretd: %v", err)
		}
	})
	select {
	case address := <-at:
		return address
	case err := <-ended:
		ended <- nil
		t.Fatalf("egretd did not start: %v", err)
		return ""
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
