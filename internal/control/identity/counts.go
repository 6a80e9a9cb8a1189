package identity

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Counts are the metrics of the authority. Names that begin with citadel are Istio's.
type Counts struct {
	authority                        *Keeper
	requests, issued, authentication atomic.Uint64

	mu      sync.Mutex
	reasons map[Reason]uint64
}

// NewCounts makes Counts that also tell when an authority expires.
func NewCounts(authority *Keeper) *Counts {
	return &Counts{authority: authority, reasons: map[Reason]uint64{}}
}

func (c *Counts) refused(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[r]++
}

// Refused is how often a caller was refused for a reason.
func (c *Counts) Refused(r Reason) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reasons[r]
}

// descriptions of the metrics, made anew where they are used: there are few scrapes.
type descriptions struct{ requests, issued, authentication, refused, expiry *prometheus.Desc }

func describe() descriptions {
	return descriptions{
		requests:       prometheus.NewDesc("citadel_server_csr_count", "Certificate requests.", nil, nil),
		issued:         prometheus.NewDesc("citadel_server_success_cert_issuance_count", "Certificates issued.", nil, nil),
		authentication: prometheus.NewDesc("citadel_server_authentication_failure_count", "Callers that did not prove their identity.", nil, nil),
		refused:        prometheus.NewDesc("egret_identity_refused_total", "Callers refused, by reason.", []string{"reason"}, nil),
		expiry:         prometheus.NewDesc("citadel_server_root_cert_expiry_timestamp", "When the mesh's signing certificate expires, in seconds since 1970.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Counts) Describe(out chan<- *prometheus.Desc) {
	d := describe()
	for _, desc := range []*prometheus.Desc{d.requests, d.issued, d.authentication, d.refused, d.expiry} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *Counts) Collect(out chan<- prometheus.Metric) {
	d := describe()
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	count(d.requests, c.requests.Load())
	count(d.issued, c.issued.Load())
	count(d.authentication, c.authentication.Load())
	for _, r := range Reasons() {
		count(d.refused, c.Refused(r), string(r))
	}
	if a := c.authority.Get(); a != nil {
		out <- prometheus.MustNewConstMetric(d.expiry, prometheus.GaugeValue, float64(a.NotAfter().Unix()))
	}
}
