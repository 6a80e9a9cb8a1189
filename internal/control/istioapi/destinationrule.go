package istioapi

import (
	"math/big"
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func (c *checker) destinationRule(r *networking.DestinationRule) {
	if r.Host == "" {
		c.fail(CodeMissing, "spec.host", "is required")
	} else {
		c.host("spec.host", checkWildcard(r.Host))
	}
	if r.WorkloadSelector != nil {
		c.selector("spec.workloadSelector.matchLabels", r.WorkloadSelector.MatchLabels)
		if len(r.ExportTo) > 1 || len(r.ExportTo) == 1 && r.ExportTo[0] != "." && r.ExportTo[0] != c.m.Namespace {
			c.fail(CodeConflict, "spec.exportTo", "a rule with a workloadSelector is for its own namespace only")
		}
	}
	c.trafficPolicy(r.TrafficPolicy, "spec.trafficPolicy")
	names := map[string]bool{}
	for i, s := range r.Subsets {
		at := index("spec.subsets", i)
		switch {
		case s.Name == "":
			c.fail(CodeMissing, at+".name", "is required")
		case names[s.Name]:
			c.fail(CodeDuplicate, at+".name", "the subset %q is there twice", s.Name)
		default:
			c.label(at+".name", "subset name", s.Name)
		}
		names[s.Name] = true
		c.labels(at+".labels", s.Labels)
		c.trafficPolicy(s.TrafficPolicy, at+".trafficPolicy")
		if r.GetTrafficPolicy().GetTunnel() != nil && s.GetTrafficPolicy().GetTunnel() == nil {
			c.warn(CodeNoEffect, at, "the rule's tunnel is not for its subsets: as in Istio, a route to the subset %q alone goes without", s.Name)
		}
	}
	c.exportTo("spec.exportTo", r.ExportTo, false)
}

func (c *checker) trafficPolicy(p *networking.TrafficPolicy, at string) {
	if p == nil {
		return
	}
	c.loadBalancer(p.LoadBalancer, at+".loadBalancer")
	c.connections(p.ConnectionPool, at+".connectionPool")
	c.outlierDetection(p.OutlierDetection, at+".outlierDetection")
	c.clientTLS(p.Tls, at+".tls")
	c.tunnel(p.Tunnel, at+".tunnel")
	if b := p.RetryBudget; b != nil && b.Percent != nil && !(b.Percent.Value >= 0 && b.Percent.Value <= 100) {
		c.fail(CodeInvalid, at+".retryBudget.percent", "%v is not from 0 to 100", b.Percent.Value)
	}
	for i, l := range p.PortLevelSettings {
		levelAt := index(at+".portLevelSettings", i)
		if l.Port == nil {
			c.fail(CodeMissing, levelAt+".port", "is required")
		} else {
			c.port(levelAt+".port.number", l.Port.Number)
		}
		c.loadBalancer(l.LoadBalancer, levelAt+".loadBalancer")
		c.connections(l.ConnectionPool, levelAt+".connectionPool")
		c.outlierDetection(l.OutlierDetection, levelAt+".outlierDetection")
		c.clientTLS(l.Tls, levelAt+".tls")
	}
}

func (c *checker) tunnel(t *networking.TrafficPolicy_TunnelSettings, at string) {
	if t == nil {
		return
	}
	switch t.Protocol {
	case "", "CONNECT", "POST":
	default:
		c.fail(CodeInvalid, at+".protocol", "%q is neither CONNECT nor POST", t.Protocol)
	}
	if a, err := netip.ParseAddr(t.TargetHost); err != nil || a.Zone() != "" {
		c.host(at+".targetHost", checkFQDN(t.TargetHost))
	}
	c.port(at+".targetPort", t.TargetPort)
}

func (c *checker) loadBalancer(l *networking.LoadBalancerSettings, at string) {
	if l == nil {
		return
	}
	if l.GetSimple() == networking.LoadBalancerSettings_PASSTHROUGH {
		c.warn(CodeInsecure, at+".simple", "PASSTHROUGH connects to whatever address the workload called, not to the host's own addresses")
	}
	c.consistentHash(l.GetConsistentHash(), at+".consistentHash")
	c.locality(l.LocalityLbSetting, at+".localityLbSetting")
	c.ignored(l.ZoneAwareLbSetting != nil, at+".zoneAwareLbSetting", "endpoints are balanced without regard to their zone")
	//lint:ignore SA1019 deprecated, still read
	c.duration(at+".warmupDurationSecs", l.WarmupDurationSecs)
	if w := l.Warmup; w != nil {
		if w.Duration == nil {
			c.fail(CodeMissing, at+".warmup.duration", "is required")
		}
		c.duration(at+".warmup.duration", w.Duration)
		if m := w.MinimumPercent; m != nil && !(m.Value >= 0 && m.Value <= 100) {
			c.fail(CodeInvalid, at+".warmup.minimumPercent", "%v is not from 0 to 100", m.Value)
		}
		if a := w.Aggression; a != nil && !(a.Value >= 1) {
			c.fail(CodeInvalid, at+".warmup.aggression", "%v is less than 1", a.Value)
		}
	}
}

// maxRing and maxTable bound what Envoy takes.
const (
	maxRing  = 8 << 20
	maxTable = 5000011
)

func (c *checker) consistentHash(h *networking.LoadBalancerSettings_ConsistentHashLB, at string) {
	if h == nil {
		return
	}
	//lint:ignore SA1019 deprecated, still read
	if n := max(h.MinimumRingSize, h.GetRingHash().GetMinimumRingSize()); n > maxRing {
		c.fail(CodeInvalid, at+".ringHash.minimumRingSize", "%d is more than %d", n, maxRing)
	}
	if n := h.GetMaglev().GetTableSize(); n != 0 && (n > maxTable || !new(big.Int).SetUint64(n).ProbablyPrime(0)) {
		c.fail(CodeInvalid, at+".maglev.tableSize", "%d is not a prime number of at most %d", n, maxTable)
	}
	switch k := h.HashKey.(type) {
	case nil:
		c.fail(CodeMissing, at, "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is required")
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		if !isHeaderName(k.HttpHeaderName) {
			c.fail(CodeInvalid, at+".httpHeaderName", "%q is not a header name (letters, digits, \"-\" and \"_\")", k.HttpHeaderName)
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		if k.HttpQueryParameterName == "" {
			c.fail(CodeMissing, at+".httpQueryParameterName", "is empty")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		c.cookie(k.HttpCookie, at+".httpCookie")
	}
}

// cookie checks what becomes part of set-cookie (RFC 6265 section 4.1.1).
func (c *checker) cookie(k *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie, at string) {
	if !isHeaderName(k.GetName()) {
		c.fail(CodeInvalid, at+".name", "%q is not the name of a cookie (letters, digits, \"-\" and \"_\")", k.GetName())
	}
	text := func(path, value string) {
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == ';' || r == ',' || r >= 0x7f }) {
			c.fail(CodeInvalid, path, "%q cannot be part of a cookie", value)
		}
	}
	text(at+".path", k.GetPath())
	if d := k.GetTtl(); d != nil && d.AsDuration() < 0 {
		c.fail(CodeInvalid, at+".ttl", "is negative")
	}
	for i, a := range k.GetAttributes() {
		attribute := index(at+".attributes", i)
		if !isHeaderName(a.GetName()) {
			c.fail(CodeInvalid, attribute+".name", "%q is not the name of an attribute", a.GetName())
		}
		text(attribute+".value", a.GetValue())
	}
}

func (c *checker) locality(l *networking.LocalityLoadBalancerSetting, at string) {
	if l == nil {
		return
	}
	if len(l.Distribute) > 0 && (len(l.Failover) > 0 || len(l.FailoverPriority) > 0) {
		c.fail(CodeConflict, at, "distribute excludes failover and failoverPriority")
	}
	for i, d := range l.Distribute {
		sum := uint64(0)
		for _, n := range d.To {
			sum += uint64(n)
		}
		if sum != 100 {
			c.fail(CodeInvalid, index(at+".distribute", i)+".to", "the weights are %d together, not 100", sum)
		}
	}
	for i, f := range l.Failover {
		if f.From == f.To {
			c.fail(CodeInvalid, index(at+".failover", i), "a region cannot fail over to itself")
		}
	}
}

func (c *checker) outlierDetection(o *networking.OutlierDetection, at string) {
	if o == nil {
		return
	}
	c.duration(at+".interval", o.Interval)
	c.duration(at+".baseEjectionTime", o.BaseEjectionTime)
	for name, n := range map[string]int32{"maxEjectionPercent": o.MaxEjectionPercent, "minHealthPercent": o.MinHealthPercent} {
		if n < 0 || n > 100 {
			c.fail(CodeInvalid, at+"."+name, "%d is not from 0 to 100", n)
		}
	}
	//lint:ignore SA1019 deprecated, no longer read by Istio either
	c.ignored(o.ConsecutiveErrors != 0, at+".consecutiveErrors", "use consecutive5xxErrors or consecutiveGatewayErrors")
	c.ignored(len(o.OutlierDetectionHttpErrorCodes) > 0, at+".outlierDetectionHttpErrorCodes", "what counts are statuses of 500 and more")
}

func (c *checker) connections(p *networking.ConnectionPoolSettings, at string) {
	if t := p.GetTcp(); t != nil {
		c.notNegative(at+".tcp.maxConnections", t.MaxConnections)
		c.duration(at+".tcp.connectTimeout", t.ConnectTimeout)
		c.duration(at+".tcp.maxConnectionDuration", t.MaxConnectionDuration)
	}
	if h := p.GetHttp(); h != nil {
		c.notNegative(at+".http.http1MaxPendingRequests", h.Http1MaxPendingRequests)
		c.notNegative(at+".http.http2MaxRequests", h.Http2MaxRequests)
		c.notNegative(at+".http.maxRequestsPerConnection", h.MaxRequestsPerConnection)
		c.notNegative(at+".http.maxRetries", h.MaxRetries)
		c.notNegative(at+".http.maxConcurrentStreams", h.MaxConcurrentStreams)
		c.ignored(h.Http2KeepAlive != nil, at+".http.http2KeepAlive", "a connection is found to be dead by its next request only")
	}
}

func (c *checker) notNegative(path string, n int32) {
	if n < 0 {
		c.fail(CodeInvalid, path, "is negative")
	}
}

// meshTLS checks what mode ISTIO_MUTUAL leaves no room for, as Istio does.
func (c *checker) meshTLS(t *networking.ClientTLSSettings, at string) {
	if t.ClientCertificate != "" || t.PrivateKey != "" || t.CaCertificates != "" || t.CredentialName != "" {
		c.fail(CodeConflict, at, "with mode ISTIO_MUTUAL the certificates are those of the mesh: clientCertificate, privateKey, caCertificates and credentialName must be left out")
	}
}

func (c *checker) clientTLS(t *networking.ClientTLSSettings, at string) {
	if t == nil {
		return
	}
	switch t.Mode {
	case networking.ClientTLSSettings_MUTUAL:
		if t.CredentialName == "" && (t.ClientCertificate == "" || t.PrivateKey == "") {
			c.fail(CodeMissing, at, "MUTUAL needs clientCertificate and privateKey, the paths of files")
		}
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		if c.rules.Pods {
			c.meshTLS(t, at)
			break
		}
		c.fail(CodeNotSupported, at+".mode", "proxies on one machine have no mesh certificates. For the egress gateway leave tls out, the hop to it does not leave the machine; for external hosts use SIMPLE")
	}
	if c.rules.Pods {
		c.clientCredential(t, at)
	} else {
		c.refused(t.CredentialName != "", at+".credentialName", "there are no Kubernetes secrets to read it from; use caCertificates, clientCertificate and privateKey with files")
	}
	c.refused(t.CaCrl != "", at+".caCrl", "ignoring it would accept revoked certificates")
	if t.Mode == networking.ClientTLSSettings_SIMPLE {
		c.ignored(t.ClientCertificate != "" || t.PrivateKey != "", at+".clientCertificate", "mode SIMPLE shows no client certificate")
	}
	if t.GetInsecureSkipVerify().GetValue() {
		if t.CaCertificates != "" || len(t.SubjectAltNames) > 0 {
			c.fail(CodeConflict, at+".insecureSkipVerify", "cannot be set together with caCertificates or subjectAltNames")
		} else {
			c.warn(CodeInsecure, at+".insecureSkipVerify", "the server's certificate is not checked: anybody on the way can answer")
		}
	}
	if t.Sni != "" {
		c.host(at+".sni", checkFQDN(t.Sni))
	}
}
