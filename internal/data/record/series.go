package record

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// destination is what a call went to: its cluster, and where that stands for no
// service the name that the workload wanted.
type destination struct {
	cluster string
	wanted  string // "" where the cluster is a service's; counts against maxHosts
}

// reporter is who tells of a call, and for calls to the workload whether TLS of the mesh had it.
type reporter uint8

const (
	outbound reporter = iota
	inboundPlain
	inboundMutual
)

func sideOf(e *Entry) reporter {
	switch {
	case !e.Inbound:
		return outbound
	case e.DownstreamTLS.Peer() != nil:
		return inboundMutual
	}
	return inboundPlain
}

// security is connection_security_policy: as in Istio only the destination knows it.
func (s reporter) security() string {
	switch s {
	case inboundPlain:
		return "none"
	case inboundMutual:
		return "mutual_tls"
	}
	return unknown
}

// principals are who called and who was called, as their certificates say; "" is not known.
type principals struct{ source, destination string }

// principalsOf is pure; its strings may be kept.
func principalsOf(e *Entry) principals {
	if e.Inbound {
		if e.DownstreamTLS.Peer() == nil { // TLS without a client's certificate is not the mesh's
			return principals{}
		}
		return principals{e.DownstreamTLS.PeerPrincipal(), e.DownstreamTLS.OwnPrincipal()}
	}
	return principals{e.UpstreamTLS.OwnPrincipal(), e.UpstreamTLS.PeerPrincipal()}
}

type httpKey struct {
	side     reporter
	who      principals
	to       destination
	flags    string
	protocol Protocol
	status   int16
	grpc     int16 // noGRPC: not a gRPC call; unset: without a status
}

const (
	noGRPC    = -2
	unsetGRPC = -1
)

type tcpKey struct {
	side  reporter
	who   principals
	to    destination
	flags string
}

type httpSeries struct {
	requests                              prometheus.Counter
	duration, requestBytes, responseBytes prometheus.Observer
	requestMessages, responseMessages     prometheus.Counter // nil: not gRPC
	cluster                               *clusterSeries
}

type tcpSeries struct{ opened, closed, sent, received prometheus.Counter }

func (s *httpSeries) count(e *Entry) {
	s.requests.Inc()
	s.duration.Observe(float64(e.Duration.Microseconds()) / 1000)
	s.requestBytes.Observe(float64(e.BytesReceived))
	s.responseBytes.Observe(float64(e.BytesSent))
	s.cluster.count(e.Status)
	if s.requestMessages != nil {
		s.requestMessages.Add(float64(e.RequestMessages))
		s.responseMessages.Add(float64(e.ResponseMessages))
	}
}

func (s *tcpSeries) count(e *Entry) {
	if !e.Opened {
		s.opened.Inc()
	}
	s.closed.Inc()
	s.sent.Add(float64(e.BytesSent))
	s.received.Add(float64(e.BytesReceived))
}

// destinationOf is pure, and keeps nothing: its strings are the entry's.
func destinationOf(e *Entry) destination {
	d := destination{cluster: e.UpstreamCluster}
	if !isService(d.cluster) {
		d.wanted = e.Host
		if d.cluster == "" && e.Reason.Denied() {
			d.cluster = resource.BlackHoleCluster
		}
	}
	return d
}

// isService is false for the clusters that stand for no service.
func isService(cluster string) bool {
	return cluster != "" && cluster != resource.PassthroughCluster && cluster != resource.BlackHoleCluster
}

// keptLocked is d with strings that may be kept. full: no room for another series.
func (m *metrics) keptLocked(d destination, full bool) destination {
	switch {
	case full:
		return destination{cluster: otherHost}
	case isService(d.cluster):
		d.cluster = strings.Clone(d.cluster)
	default:
		d.cluster, d.wanted = strings.Clone(d.cluster), m.hostLabelLocked(d.wanted)
	}
	return d
}

// service gives destination_service and destination_service_name: the cluster's host
// ("outbound|80|subset|host"), or the wanted host and the cluster's name.
func (d destination) service() (service, name string) {
	if isService(d.cluster) {
		host := d.cluster[strings.LastIndexByte(d.cluster, '|')+1:]
		return host, host
	}
	if name = d.cluster; name == "" {
		name = unknown
	}
	return d.wanted, name
}

// labels are in the order of varying.
func (d destination) labels(e *Entry, who principals, protocol, code, flags, grpc string) []string {
	service, name := d.service()
	object := serviceObject(e)
	if e.Inbound { // what the client says does not matter, so it cannot fill the metrics either
		service = unknown
		if object.Name != "" {
			service, name = strings.Clone(object.Name+"."+object.Namespace), strings.Clone(object.Name)
		}
	}
	return []string{service, name, cmp.Or(strings.Clone(object.Namespace), unknown), protocol, code, flags, grpc, sideOf(e).security(),
		cmp.Or(who.source, unknown), cmp.Or(who.destination, unknown)}
}

// serviceObject is the object that registered what was called; zero where none is known.
func serviceObject(e *Entry) resource.Object {
	for _, o := range e.UpstreamObjects {
		if (o.Kind == "ServiceEntry" || o.Kind == "Service") && o.Namespace != "" {
			return o
		}
	}
	return resource.Object{}
}

func joinFlags(flags []string) string {
	switch len(flags) {
	case 0:
		return "-"
	case 1:
		return flags[0]
	}
	return strings.Join(flags, ",")
}

func httpKeyOf(e *Entry) httpKey {
	k := httpKey{side: sideOf(e), who: principalsOf(e), to: destinationOf(e), flags: joinFlags(e.Flags), protocol: e.Protocol, grpc: noGRPC}
	if e.Status > 0 && e.Status <= 999 {
		k.status = int16(e.Status)
	}
	if e.IsGRPC() {
		k.grpc = unsetGRPC
		if n, ok := grpcStatus(e); ok && n >= 0 && n < len(grpcNames) { // others would be chosen by the server
			k.grpc = int16(n)
		}
	}
	return k
}

func (m *metrics) httpSeries(e *Entry) *httpSeries {
	k := httpKeyOf(e)
	m.mu.RLock()
	s := m.http[k]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	cluster := m.clusterLocked(strings.Clone(e.UpstreamCluster))
	full := len(m.http) >= maxSeries
	k.to, k.flags = m.keptLocked(k.to, full), strings.Clone(k.flags)
	if full {
		k.who = principals{}
	}
	if s = m.http[k]; s == nil {
		protocol, grpc := "http", ""
		if k.grpc != noGRPC {
			protocol = "grpc"
		}
		if k.grpc >= 0 {
			grpc = strconv.Itoa(int(k.grpc))
		}
		l := k.to.labels(e, k.who, protocol, strconv.Itoa(int(k.status)), k.flags, grpc)
		of := m.of(e)
		s = &httpSeries{requests: of.requests.WithLabelValues(l...), duration: of.duration.WithLabelValues(l...),
			requestBytes: of.requestBytes.WithLabelValues(l...), responseBytes: of.responseBytes.WithLabelValues(l...), cluster: cluster}
		if k.grpc != noGRPC {
			s.requestMessages, s.responseMessages = of.requestMessages.WithLabelValues(l...), of.responseMessages.WithLabelValues(l...)
		}
		m.http[k] = s
	}
	return s
}

func (m *metrics) tcpSeries(e *Entry) *tcpSeries {
	k := tcpKey{side: sideOf(e), who: principalsOf(e), to: destinationOf(e), flags: joinFlags(e.Flags)}
	m.mu.RLock()
	s := m.tcp[k]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	full := len(m.tcp) >= maxSeries
	k.to, k.flags = m.keptLocked(k.to, full), strings.Clone(k.flags)
	if full {
		k.who = principals{}
	}
	if s = m.tcp[k]; s == nil {
		l := k.to.labels(e, k.who, "tcp", "0", k.flags, "")
		of := m.of(e)
		s = &tcpSeries{opened: of.opened.WithLabelValues(l...), closed: of.closed.WithLabelValues(l...),
			sent: of.sent.WithLabelValues(l...), received: of.received.WithLabelValues(l...)}
		m.tcp[k] = s
	}
	return s
}
