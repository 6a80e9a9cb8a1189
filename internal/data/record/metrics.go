package record

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
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
	"request_protocol", "response_code", "response_flags", "grpc_response_status", "connection_security_policy"}

// metrics counts. Handles are kept in maps by comparable keys, so that counting a
// known series takes a read lock and allocates nothing.
type metrics struct {
	registry *prometheus.Registry

	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	requestBytes  *prometheus.HistogramVec
	responseBytes *prometheus.HistogramVec
	opened        *prometheus.CounterVec
	closed        *prometheus.CounterVec
	sent          *prometheus.CounterVec
	received      *prometheus.CounterVec
	denied        *prometheus.CounterVec

	mu      sync.RWMutex
	http    map[httpKey]*httpSeries
	tcp     map[tcpKey]*tcpSeries
	denials map[deniedKey]prometheus.Counter
	hosts   map[string]string
}

type httpKey struct {
	to       destination
	flags    string
	protocol Protocol
	status   int
}

type tcpKey struct {
	to    destination
	flags string
}

type deniedKey struct {
	reason reason.Reason
	host   string
}

type httpSeries struct {
	requests                              prometheus.Counter
	duration, requestBytes, responseBytes prometheus.Observer
}

type tcpSeries struct{ opened, closed, sent, received prometheus.Counter }

func newMetrics(w Workload, dropped *atomic.Uint64) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		http:     map[httpKey]*httpSeries{}, tcp: map[tcpKey]*tcpSeries{},
		denials: map[deniedKey]prometheus.Counter{}, hosts: map[string]string{},
	}
	constant := w.labels()
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
	m.requests = counter("istio_requests_total", "HTTP requests, with their response code.")
	m.duration = histogram("istio_request_duration_milliseconds", "Duration of HTTP requests.")
	m.requestBytes = histogram("istio_request_bytes", "Body bytes of HTTP requests.")
	m.responseBytes = histogram("istio_response_bytes", "Body bytes of HTTP responses.")
	m.opened = counter("istio_tcp_connections_opened_total", "TCP connections opened.")
	m.closed = counter("istio_tcp_connections_closed_total", "TCP connections closed.")
	m.sent = counter("istio_tcp_sent_bytes_total", "Bytes sent to the client on TCP connections.")
	m.received = counter("istio_tcp_received_bytes_total", "Bytes received from the client on TCP connections.")
	m.denied = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "egret_denied_total",
		Help: "Requests and connections refused, by reason and by the host that was wanted."}, []string{"reason", "host"})
	m.registry.MustRegister(m.denied, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "egret_access_log_dropped_total", Help: "Access log lines lost since a file was too slow or not writable.",
	}, func() float64 { return float64(dropped.Load()) }))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// labels are those of Istio's labels that are the same for all calls of this proxy.
func (w Workload) labels() prometheus.Labels {
	or := func(s string) string {
		if s == "" {
			return unknown
		}
		return s
	}
	principal := unknown
	return prometheus.Labels{
		"reporter": "source", "source_workload": or(w.Name), "source_workload_namespace": or(w.Namespace),
		"source_app": or(w.App), "source_version": or(w.Version), "source_cluster": or(w.Cluster),
		"source_principal": principal, "source_canonical_service": or(w.App), "source_canonical_revision": or(w.Version),
		"destination_workload": unknown, "destination_workload_namespace": unknown, "destination_app": unknown,
		"destination_version": unknown, "destination_principal": unknown, "destination_cluster": unknown,
		"destination_canonical_service": unknown, "destination_canonical_revision": unknown,
	}
}

// count takes a finished entry. host is what the entry is about, for denials.
func (m *metrics) count(e *Entry, host string) {
	if e.Reason.Denied() {
		m.deniedCounter(e.Reason, host).Inc()
	}
	switch e.Protocol {
	case ProtocolTCP:
		s := m.tcpSeries(e)
		if !e.Opened {
			s.opened.Inc()
		}
		s.closed.Inc()
		s.sent.Add(float64(e.BytesSent))
		s.received.Add(float64(e.BytesReceived))
	case ProtocolHTTP10, ProtocolHTTP11, ProtocolHTTP2:
		s := m.httpSeries(e)
		s.requests.Inc()
		s.duration.Observe(float64(e.Duration.Microseconds()) / 1000)
		s.requestBytes.Observe(float64(e.BytesReceived))
		s.responseBytes.Observe(float64(e.BytesSent))
	}
}

// destination is what a call went to, as Istio's labels name it.
type destination struct {
	service, name string
	// wanted: service is a name that the workload chose, so it counts against maxHosts.
	wanted bool
}

// destinationOf gives destination_service and destination_service_name: the cluster's
// host, or for the clusters that stand for no service the wanted host and the
// cluster's name.
func destinationOf(e *Entry) destination {
	c := e.UpstreamCluster
	if i := strings.LastIndexByte(c, '|'); i >= 0 { // "outbound|80|subset|host"
		return destination{service: c[i+1:], name: c[i+1:]}
	}
	switch {
	case c == resource.PassthroughCluster || c == resource.BlackHoleCluster:
		return destination{e.Host, c, true}
	case c == "" && e.Reason.Denied():
		return destination{e.Host, resource.BlackHoleCluster, true}
	case c == "":
		return destination{e.Host, unknown, true}
	}
	return destination{service: c, name: c}
}

// keptLocked is d with strings that may be kept.
func (m *metrics) keptLocked(d destination, full bool) destination {
	if full {
		return destination{otherHost, otherHost, d.wanted}
	}
	d.name = strings.Clone(d.name)
	if d.wanted {
		d.service = m.hostLabelLocked(d.service)
	} else {
		d.service = strings.Clone(d.service)
	}
	return d
}

func firstFlag(flags []string) string {
	switch len(flags) {
	case 0:
		return "-"
	case 1:
		return flags[0]
	}
	return strings.Join(flags, ",")
}

func (m *metrics) httpSeries(e *Entry) *httpSeries {
	k := httpKey{to: destinationOf(e), flags: firstFlag(e.Flags), protocol: e.Protocol, status: e.Status}
	m.mu.RLock()
	s := m.http[k]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k.status < 0 || k.status > 999 {
		k.status = 0
	}
	k.to, k.flags = m.keptLocked(k.to, len(m.http) >= maxSeries), strings.Clone(k.flags)
	if s = m.http[k]; s == nil {
		l := labelValues(k.to, protocolLabel(k.protocol), strconv.Itoa(k.status), k.flags)
		s = &httpSeries{requests: m.requests.WithLabelValues(l...), duration: m.duration.WithLabelValues(l...),
			requestBytes: m.requestBytes.WithLabelValues(l...), responseBytes: m.responseBytes.WithLabelValues(l...)}
		m.http[k] = s
	}
	return s
}

func (m *metrics) tcpSeries(e *Entry) *tcpSeries {
	k := tcpKey{to: destinationOf(e), flags: firstFlag(e.Flags)}
	m.mu.RLock()
	s := m.tcp[k]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k.to, k.flags = m.keptLocked(k.to, len(m.tcp) >= maxSeries), strings.Clone(k.flags)
	if s = m.tcp[k]; s == nil {
		l := labelValues(k.to, "tcp", "0", k.flags)
		s = &tcpSeries{opened: m.opened.WithLabelValues(l...), closed: m.closed.WithLabelValues(l...),
			sent: m.sent.WithLabelValues(l...), received: m.received.WithLabelValues(l...)}
		m.tcp[k] = s
	}
	return s
}

func labelValues(to destination, protocol, code, flags string) []string {
	return []string{to.service, to.name, unknown, protocol, code, flags, "", unknown}
}

// protocolLabel is Istio's request_protocol.
func protocolLabel(p Protocol) string {
	if p == ProtocolTCP {
		return "tcp"
	}
	return "http"
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
