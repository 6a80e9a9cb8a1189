package egretd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// readiness answers /ready; set says whether it is.
type readiness struct{ is atomic.Bool }

func (r *readiness) set(is bool) { r.is.Store(is) }

// mux has /ready, and room for more.
func (r *readiness) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !r.is.Load() {
			http.Error(w, "not all of the cluster is known yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// serveHTTP serves until ctx ends, and then what has been asked already. Without a listener it
// serves nothing.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler, config *tls.Config) (err error) {
	if ln == nil {
		return nil
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, TLSConfig: config,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), leave)
		defer cancel()
		if server.Shutdown(patience) != nil {
			_ = server.Close()
		}
	})
	if config == nil {
		err = server.Serve(ln)
	} else {
		err = server.ServeTLS(ln, "", "")
	}
	if stop() { // it failed by itself
		return err
	}
	<-ended
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
