package sds

import (
	"fmt"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/xds"
)

// answer is what becomes of a name that a stream asks for.
type answer uint8

const (
	unknown        answer = iota
	waiting               // it is not known yet
	given                 // it is, the last good version at least
	unproven              // the caller has not proven who it is: plain text xDS
	badName               // not a name of a Secret
	otherNamespace        // than the proxy's
	notAllowed            // the account may not list Secrets
	notFound              // there is no such Secret
	malformed             // the Secret has nothing that can be used
	answers               // their number
)

// String is the reason, in the log and in the metric.
func (a answer) String() string {
	return [answers]string{"", "not_known_yet", "malformed_update", "no_identity", "malformed_name", "other_namespace", "not_authorized", "not_found", "malformed"}[a]
}

// outcome is an answer and its detail, which never has anything of a key.
type outcome struct {
	state answer
	why   string
}

// resource is Envoy's form of a secret, under the name by which it was asked for.
func resource(name string, made any) (xds.Resource, error) {
	secret := &tlsv3.Secret{Name: name}
	switch part := made.(type) {
	case *pair:
		secret.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(part.chain), PrivateKey: inline(part.key), OcspStaple: inline(part.staple),
		}}
	case *authorities:
		secret.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(part.ca), Crl: inline(part.crl),
		}}
	default:
		return xds.Resource{}, fmt.Errorf("no secret is made of %T", made)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(secret)
	if err != nil {
		return xds.Resource{}, fmt.Errorf("encode: %w", err)
	}
	body := &anypb.Any{TypeUrl: xds.SecretType, Value: value}
	return xds.Resource{Name: name, Version: xds.BodyVersion(body), Body: body}, nil
}

func inline(b []byte) *corev3.DataSource {
	if len(b) == 0 {
		return nil
	}
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// Counts are how often a secret was not given, by reason.
type Counts struct {
	mu   sync.Mutex
	byIt [answers]uint64
}

func (c *Counts) failed(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byIt[a]++
}

func describe() (errors, refused *prometheus.Desc) {
	return prometheus.NewDesc("pilot_sds_certificate_errors_total", "Secrets that a proxy asked for and was not given.", nil, nil),
		prometheus.NewDesc("egret_sds_refused_total", "Secrets that a proxy asked for and was not given, by reason.", []string{"reason"}, nil)
}

// Describe implements prometheus.Collector.
func (c *Counts) Describe(out chan<- *prometheus.Desc) {
	errors, refused := describe()
	out <- errors
	out <- refused
}

// Collect implements prometheus.Collector.
func (c *Counts) Collect(out chan<- prometheus.Metric) {
	errors, refused := describe()
	c.mu.Lock()
	counts := c.byIt
	c.mu.Unlock()
	all := uint64(0)
	for a := waiting; a < answers; a++ {
		all += counts[a]
		out <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(counts[a]), a.String())
	}
	out <- prometheus.MustNewConstMetric(errors, prometheus.CounterValue, float64(all))
}
