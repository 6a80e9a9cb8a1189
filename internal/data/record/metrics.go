package record

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-mesh/egret/internal/data/reason"
)

// Bounds on label values: a workload chooses names, so they must not grow the
// metrics without end.
const (
	maxHosts  = 1000
	maxSeries = 10000
	otherHost = "other"
	unknown   = "unknown"
)

// buckets are Envoy's default histogram buckets, which Istio uses for times (ms) and sizes (bytes).
var buckets = []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000,
	300000, 600000, 1800000, 3600000}

// varying are the labels of Istio's standard metrics whose values differ by call.
var varying = []string{"destination_service", "destination_service_name", "destination_service_namespace",
	"request_protocol", "response_code", "response_flags", "grpc_response_status", "connection_security_policy",
	"source_principal", "destination_principal"}

// metrics counts. Handles are kept in maps by comparable keys, so that counting a
// known series takes a read lock and allocates nothing.
type metrics struct {
	registry *prometheus.Registry

	// source has the calls of the workload, destination those to it.
	source, destination standard
	denied              *prometheus.CounterVec

	mu       sync.RWMutex
	http     map[httpKey]*httpSeries
	tcp      map[tcpKey]*tcpSeries
	denials  map[deniedKey]prometheus.Counter
	clusters map[string]*clusterSeries
	hosts    map[string]string
}

// standard are Istio's standard metrics, as one reporter tells them.
type standard struct {
	requests         *prometheus.CounterVec
	duration         *prometheus.HistogramVec
	requestBytes     *prometheus.HistogramVec
	responseBytes    *prometheus.HistogramVec
	requestMessages  *prometheus.CounterVec
	responseMessages *prometheus.CounterVec
	opened           *prometheus.CounterVec
	closed           *prometheus.CounterVec
	sent             *prometheus.CounterVec
	received         *prometheus.CounterVec
}

// of are the metrics that an entry counts in.
func (m *metrics) of(e *Entry) *standard {
	if e.Inbound {
		return &m.destination
	}
	return &m.source
}

type deniedKey struct {
	reason reason.Reason
	host   string
}

// clusterSeries are Envoy's counters of requests to one cluster.
type clusterSeries struct {
	requests atomic.Uint64
	classes  [6]atomic.Uint64 // by the first digit of the status; 0: none or no status
}

func newMetrics(w Workload, dropped *atomic.Uint64) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		http:     map[httpKey]*httpSeries{}, tcp: map[tcpKey]*tcpSeries{},
		denials: map[deniedKey]prometheus.Counter{}, clusters: map[string]*clusterSeries{}, hosts: map[string]string{},
	}
	m.source, m.destination = m.standard(w.labels(false)), m.standard(w.labels(true))
	m.denied = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "egret_denied_total",
		Help: "Requests and connections refused, by reason and by the host that was wanted."}, []string{"reason", "host"})
	m.registry.MustRegister(m.denied, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "egret_access_log_dropped_total", Help: "Access log lines lost since a file was too slow or not writable.",
	}, func() float64 { return float64(dropped.Load()) }))
	return m
}

// standard registers the metrics of one reporter.
func (m *metrics) standard(constant prometheus.Labels) standard {
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant}, varying)
		m.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: constant, Buckets: buckets}, varying)
		m.registry.MustRegister(v)
		return v
	}
	return standard{
		requests:         counter("istio_requests_total", "HTTP requests, with their response code."),
		duration:         histogram("istio_request_duration_milliseconds", "Duration of HTTP requests."),
		requestBytes:     histogram("istio_request_bytes", "Body bytes of HTTP requests."),
		responseBytes:    histogram("istio_response_bytes", "Body bytes of HTTP responses."),
		requestMessages:  counter("istio_request_messages_total", "gRPC messages from clients."),
		responseMessages: counter("istio_response_messages_total", "gRPC messages to clients."),
		opened:           counter("istio_tcp_connections_opened_total", "TCP connections opened."),
		closed:           counter("istio_tcp_connections_closed_total", "TCP connections closed."),
		sent:             counter("istio_tcp_sent_bytes_total", "Bytes sent to the client on TCP connections."),
		received:         counter("istio_tcp_received_bytes_total", "Bytes received from the client on TCP connections."),
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// labels are those of Istio's labels that are the same for all calls of this proxy's
// workload, or with inbound for all calls to it. Of the other side only its
// certificate is known, which varies: nothing is exchanged about peers.
func (w Workload) labels(inbound bool) prometheus.Labels {
	own, peer, reporter := "source_", "destination_", "source"
	if inbound {
		own, peer, reporter = peer, own, "destination"
	}
	out := prometheus.Labels{"reporter": reporter}
	for name, value := range map[string]string{
		"workload": w.Name, "workload_namespace": w.Namespace, "app": w.App, "version": w.Version, "cluster": w.Cluster,
		"canonical_service": w.App, "canonical_revision": w.Version,
	} {
		out[own+name], out[peer+name] = cmp.Or(value, unknown), unknown
	}
	return out
}

// count takes a finished entry. host is what the entry is about, for denials.
func (m *metrics) count(e *Entry, host string) {
	if e.Reason.Denied() {
		m.deniedCounter(e.Reason, host).Inc()
	}
	switch {
	case e.Protocol == ProtocolTCP:
		m.tcpSeries(e).count(e)
	case e.Protocol.isHTTP():
		m.httpSeries(e).count(e)
	}
}

func (m *metrics) deniedCounter(why reason.Reason, host string) prometheus.Counter {
	k := deniedKey{why, host}
	m.mu.RLock()
	c := m.denials[k]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k.host = m.hostLabelLocked(host)
	if c = m.denials[k]; c == nil {
		c = m.denied.WithLabelValues(string(k.reason), k.host)
		m.denials[k] = c
	}
	return c
}

// clusterLocked are the counters of a cluster, nil where there is none or too many.
func (m *metrics) clusterLocked(name string) *clusterSeries {
	c := m.clusters[name]
	if c == nil && name != "" && len(m.clusters) < maxSeries {
		c = &clusterSeries{}
		m.clusters[name] = c
	}
	return c
}

func (c *clusterSeries) count(status int) {
	if c == nil {
		return
	}
	c.requests.Add(1)
	if class := status / 100; class > 0 && class < len(c.classes) {
		c.classes[class].Add(1)
	}
}

// hostLabelLocked is host while there is room for it, else "other"; never a string
// that aliases the caller's buffer, and always UTF-8.
func (m *metrics) hostLabelLocked(host string) string {
	if host == "" {
		return unknown
	}
	if kept, ok := m.hosts[host]; ok {
		return kept
	}
	if len(m.hosts) >= maxHosts || len(host) > 255 {
		return otherHost
	}
	kept := strings.ToValidUTF8(strings.Clone(host), "?")
	m.hosts[strings.Clone(host)] = kept
	return kept
}
