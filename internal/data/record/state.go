package record

import (
	"maps"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what the parts of a proxy are doing, for Envoy's own metrics and for what
// was left out of the configuration.
type State struct {
	Listeners []ListenerState
	Clusters  []ClusterState
	// Draining: no new connection is accepted any more.
	Draining bool
	Mirrored MirrorState
	// Skipped counts the fields and filters that were left out, by name.
	Skipped map[string]int
	// OnDemand is what was asked for by name; nil: nothing is.
	OnDemand *OnDemandState
}

// OnDemandState counts resources that are asked for by name: those that are held, known
// not to exist, and not answered yet; and since the start the questions, those that were
// not asked because of a limit, and the resources that made room for others.
type OnDemandState struct {
	Held, Unknown, Waiting  int
	Asked, Limited, Evicted uint64
}

// MirrorState counts copies of requests: answered, not answered, and those that were not
// sent, since there were too many or the body was too large or there is no such cluster.
type MirrorState struct{ Answered, Failed, LeftOut uint64 }

// ListenerState is one open listener.
type ListenerState struct {
	Address string // "0.0.0.0_15001", as Envoy names listeners in metrics
	Active  int64  // live connections
	Total   uint64 // connections so far
}

// ClusterState is one cluster that was used.
type ClusterState struct {
	Name              string
	ActiveConnections int64
	Connections       uint64 // made so far
	ConnectFailures   uint64
	ActiveRequests    int64
	// Hosts that are known, and those of them that are healthy.
	Hosts, Healthy int
}

// stateCollector gives Envoy's metrics that Istio's dashboards and tools read, by the
// names and labels that Istio's proxies have.
type stateCollector struct {
	metrics *metrics
	state   func() State
	start   time.Time
}

// sample is a metric without labels, or with one.
func sample(out chan<- prometheus.Metric, t prometheus.ValueType, name, help string, value float64, label ...string) {
	var names, values []string
	for i := 0; i+1 < len(label); i += 2 {
		names, values = append(names, label[i]), append(values, strings.ToValidUTF8(label[i+1], "?"))
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), t, value, values...)
}

func gauge(out chan<- prometheus.Metric, name, help string, value float64, label ...string) {
	sample(out, prometheus.GaugeValue, name, help, value, label...)
}

func counter(out chan<- prometheus.Metric, name, help string, value float64, label ...string) {
	sample(out, prometheus.CounterValue, name, help, value, label...)
}

// Describe sends nothing: which metrics there are depends on the state.
func (c *stateCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	s := State{}
	if c.state != nil {
		s = c.state()
	}
	c.server(out, &s)
	for i := range s.Listeners {
		l := &s.Listeners[i]
		gauge(out, "envoy_listener_downstream_cx_active", "Live connections of a listener.", float64(l.Active), "listener_address", l.Address)
		counter(out, "envoy_listener_downstream_cx_total", "Connections of a listener.", float64(l.Total), "listener_address", l.Address)
	}
	gauge(out, "envoy_listener_manager_total_listeners_active", "Open listeners.", float64(len(s.Listeners)))
	if d := s.OnDemand; d != nil {
		const help = "Resources that are asked for by name."
		gauge(out, "egret_on_demand_resources", help, float64(d.Held), "state", "held")
		gauge(out, "egret_on_demand_resources", help, float64(d.Unknown), "state", "unknown")
		gauge(out, "egret_on_demand_resources", help, float64(d.Waiting), "state", "waiting")
		counter(out, "egret_on_demand_asked_total", "Questions for a resource by its name.", float64(d.Asked))
		counter(out, "egret_on_demand_limited_total", "Questions that were not asked because of a limit.", float64(d.Limited))
		counter(out, "egret_on_demand_evicted_total", "Resources that made room for others.", float64(d.Evicted))
	}
	for i := range s.Clusters {
		collectCluster(out, &s.Clusters[i])
	}
	c.requests(out)
	for _, m := range []struct {
		outcome string
		n       uint64
	}{{"answered", s.Mirrored.Answered}, {"failed", s.Mirrored.Failed}, {"left_out", s.Mirrored.LeftOut}} {
		counter(out, "egret_mirrored_total", "Copies of requests for mirrors, by what became of them.", float64(m.n), "outcome", m.outcome)
	}
	for name, n := range s.Skipped {
		counter(out, "egret_config_skipped_total", "Fields and filters of the configuration that were left out since they are cosmetic here, by name.",
			float64(n), "field", name)
	}
}

// server are Envoy's server statistics.
func (c *stateCollector) server(out chan<- prometheus.Metric, s *State) {
	live := 1.0
	if s.Draining {
		live = 0
	}
	gauge(out, "envoy_server_live", "1 while the proxy serves, 0 while it drains.", live)
	gauge(out, "envoy_server_state", "0: live, 1: draining.", 1-live)
	gauge(out, "envoy_server_uptime", "Seconds since the start.", float64(int64(time.Since(c.start).Seconds())))
	gauge(out, "envoy_server_concurrency", "Threads that run at the same time.", float64(runtime.GOMAXPROCS(0)))
	var total int64
	for i := range s.Listeners {
		total += s.Listeners[i].Active
	}
	gauge(out, "envoy_server_total_connections", "Live connections from clients.", float64(total))
	memory := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
	runtimemetrics.Read(memory) // does not stop the world, as runtime.ReadMemStats does
	gauge(out, "envoy_server_memory_allocated", "Bytes of live and not yet swept objects.", float64(memory[0].Value.Uint64()))
	gauge(out, "envoy_server_memory_heap_size", "Bytes that the runtime has from the system.", float64(memory[1].Value.Uint64()))
}

func collectCluster(out chan<- prometheus.Metric, s *ClusterState) {
	label := []string{"cluster_name", s.Name}
	gauge(out, "envoy_cluster_upstream_cx_active", "Live connections to a cluster.", float64(s.ActiveConnections), label...)
	counter(out, "envoy_cluster_upstream_cx_total", "Connections made to a cluster.", float64(s.Connections), label...)
	counter(out, "envoy_cluster_upstream_cx_connect_fail", "Connections to a cluster that could not be made.", float64(s.ConnectFailures), label...)
	gauge(out, "envoy_cluster_upstream_rq_active", "Requests, and TCP connections, under way to a cluster.", float64(s.ActiveRequests), label...)
	gauge(out, "envoy_cluster_membership_total", "Hosts of a cluster.", float64(s.Hosts), label...)
	gauge(out, "envoy_cluster_membership_healthy", "Hosts of a cluster that are healthy.", float64(s.Healthy), label...)
}

// requests are the requests by cluster that this recorder has counted itself.
func (c *stateCollector) requests(out chan<- prometheus.Metric) {
	c.metrics.mu.RLock()
	clusters := maps.Clone(c.metrics.clusters)
	c.metrics.mu.RUnlock()
	for name, s := range clusters {
		counter(out, "envoy_cluster_upstream_rq_total", "Requests to a cluster.", float64(s.requests.Load()), "cluster_name", name)
		for class := range s.classes {
			if n := s.classes[class].Load(); n > 0 {
				counter(out, "envoy_cluster_upstream_rq_xx", "Requests to a cluster by the class of their response.", float64(n),
					"cluster_name", name, "response_code_class", strconv.Itoa(class)+"xx")
			}
		}
	}
}
