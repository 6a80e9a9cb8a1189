package egretproxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	if err := waitReady(context.Background(), client, server.URL, time.Millisecond); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	asked.Store(-1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := waitReady(ctx, client, server.URL, time.Millisecond); err == nil || !strings.Contains(err.Error(), "the proxy is not ready") {
		t.Errorf("%v", err)
	}
}
