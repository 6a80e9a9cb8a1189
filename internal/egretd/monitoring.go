package egretd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// serveMonitoring serves HTTP until ctx ends.
func serveMonitoring(ctx context.Context, ln net.Listener, control *discovery.Server, p *problems) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {}) // it listens when the mesh is built
	if err := addMonitoring(mux, control, p); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

// addMonitoring adds what a control plane tells of itself.
func addMonitoring(mux *http.ServeMux, control *discovery.Server, p *problems, more ...prometheus.Collector) error {
	metrics := prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&counts{control, p},
	}, more...) {
		if err := metrics.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	addDebug(mux, control)
	mux.HandleFunc("GET /version", tellVersion)
	return nil
}

// counts collects the metrics when they are asked for. Names that begin with pilot are
// Istio's.
type counts struct {
	control  *discovery.Server
	problems *problems
}

var (
	connectedDesc = prometheus.NewDesc("pilot_xds", "Proxies that are connected by xDS.", nil, nil)
	refusedDesc   = prometheus.NewDesc("egret_xds_refused", "Resources that a proxy refuses in their last version.", []string{"type"}, nil)
	pendingDesc   = prometheus.NewDesc("egret_xds_pending", "Resources that a proxy has not answered yet.", []string{"type"}, nil)
	problemsDesc  = prometheus.NewDesc("egret_config_problems", "What is wrong with the configuration.", []string{"severity"}, nil)
)

// Describe implements prometheus.Collector.
func (c *counts) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedDesc, refusedDesc, pendingDesc, problemsDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *counts) Collect(out chan<- prometheus.Metric) {
	status := c.control.Status()
	refused, pending := map[string]int{}, map[string]int{}
	for _, n := range status {
		for _, t := range n.Types {
			refused[t.TypeURL] += len(t.Refused)
			pending[t.TypeURL] += len(t.Pending)
		}
	}
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(connectedDesc, len(status))
	for typeURL := range refused {
		gauge(refusedDesc, refused[typeURL], typeURL)
		gauge(pendingDesc, pending[typeURL], typeURL)
	}
	for _, s := range []istioapi.Severity{istioapi.Warning, istioapi.Error} {
		gauge(problemsDesc, c.problems.count(s), s.String())
	}
}
