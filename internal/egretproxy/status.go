package egretproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-mesh/egret/internal/agent"
	"github.com/egret-mesh/egret/internal/data/instance"
)

// statusServers are the ports that pilot-agent serves and those of the listeners in its
// bootstrap for Envoy: readiness and metrics, and probes of the application.
func statusServers(s *agent.Settings, p *instance.Instance) (out []statusServer, err error) {
	metrics, err := metricsHandler(p)
	if err != nil {
		return nil, err
	}
	ready := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if why := unready(s, p); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
		}
	})
	status, readiness, stats := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	for _, mux := range []*http.ServeMux{status, readiness} {
		mux.Handle("GET /healthz/ready", ready)
	}
	for _, mux := range []*http.ServeMux{status, stats} {
		mux.Handle("GET /stats/prometheus", metrics)
	}
	status.Handle("GET /metrics", metrics)
	for path, probe := range s.Probes {
		status.Handle(path, probeHandler(s.PodIP, probe))
	}
	for _, one := range []struct {
		port uint16
		mux  *http.ServeMux
	}{{s.StatusPort, status}, {s.ReadyPort, readiness}, {s.StatsPort, stats}} {
		if one.port == 0 {
			continue
		}
		ln, errListen := net.Listen("tcp", ":"+strconv.Itoa(int(one.port)))
		if errListen != nil {
			err = errors.Join(err, fmt.Errorf("status: %w", errListen))
			continue
		}
		out = append(out, statusServer{ln, one.mux})
	}
	if err != nil {
		for _, one := range out {
			_ = one.listener.Close()
		}
		return nil, err
	}
	return out, nil
}

type statusServer struct {
	listener net.Listener
	handler  http.Handler
}

// serve serves until ctx ends; then it returns nil.
func (s statusServer) serve(ctx context.Context) error {
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(s.listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// unready says why the proxy is not ready; "": it is.
func unready(s *agent.Settings, p *instance.Instance) string {
	c := p.Store().Current()
	switch {
	case c == nil:
		return "there is no complete configuration yet"
	case p.Draining():
		return "the proxy is about to end"
	case s.DNSAddress != "" && c.Names == nil && !c.NamesOnDemand:
		return "the names for the workload's DNS have not come yet"
	case !p.Serving(false):
		return "the listeners are not open yet"
	}
	return ""
}

func metricsHandler(p *instance.Instance) (http.Handler, error) {
	metrics := prometheus.NewRegistry()
	if err := metrics.Register(p.Recorder().Metrics()); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), nil
}
