package istioapi

import (
	networking "istio.io/api/networking/v1alpha3"
)

func (c *checker) destinationRule(r *networking.DestinationRule) {
	if r.Host == "" {
		c.fail(CodeMissing, "spec.host", "is required")
	} else {
		c.host("spec.host", checkWildcard(r.Host))
	}
	c.refused(r.WorkloadSelector != nil, "spec.workloadSelector", "ignoring it would apply the rule to every workload; leave it out, or use exportTo")
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
	}
	c.exportTo("spec.exportTo", r.ExportTo, false)
}

func (c *checker) trafficPolicy(p *networking.TrafficPolicy, at string) {
	if p == nil {
		return
	}
	c.loadBalancer(p.LoadBalancer, at+".loadBalancer")
	c.connections(p.ConnectionPool, p.OutlierDetection, at)
	c.clientTLS(p.Tls, at+".tls")
	c.refused(p.Tunnel != nil, at+".tunnel", "ignoring it would connect directly, not through the tunnel")
	c.ignored(p.ProxyProtocol != nil, at+".proxyProtocol", "connections begin without the PROXY header")
	c.ignored(p.RetryBudget != nil, at+".retryBudget", "retries are limited only by retries.attempts")
	for i, l := range p.PortLevelSettings {
		levelAt := index(at+".portLevelSettings", i)
		if l.Port == nil {
			c.fail(CodeMissing, levelAt+".port", "is required")
		} else {
			c.port(levelAt+".port.number", l.Port.Number)
		}
		c.loadBalancer(l.LoadBalancer, levelAt+".loadBalancer")
		c.connections(l.ConnectionPool, l.OutlierDetection, levelAt)
		c.clientTLS(l.Tls, levelAt+".tls")
	}
}

func (c *checker) loadBalancer(l *networking.LoadBalancerSettings, at string) {
	if l == nil {
		return
	}
	c.refused(l.GetSimple() == networking.LoadBalancerSettings_PASSTHROUGH, at+".simple",
		"PASSTHROUGH would connect to whatever address the workload chose; use a ServiceEntry with resolution NONE")
	c.ignored(l.GetConsistentHash() != nil, at+".consistentHash", "requests are balanced without regard to a key")
	c.ignored(l.LocalityLbSetting != nil, at+".localityLbSetting", "endpoints are balanced without regard to their locality")
	c.ignored(l.ZoneAwareLbSetting != nil, at+".zoneAwareLbSetting", "endpoints are balanced without regard to their zone")
	//lint:ignore SA1019 deprecated, still read
	c.ignored(l.Warmup != nil || l.WarmupDurationSecs != nil, at+".warmup", "a new endpoint gets its full share at once")
}

func (c *checker) connections(p *networking.ConnectionPoolSettings, o *networking.OutlierDetection, at string) {
	c.ignored(p != nil, at+".connectionPool", "connections and requests are not limited by it")
	c.ignored(o != nil, at+".outlierDetection", "a failing endpoint stays in use")
	if t := p.GetTcp(); t != nil {
		c.duration(at+".connectionPool.tcp.connectTimeout", t.ConnectTimeout)
	}
}

func (c *checker) clientTLS(t *networking.ClientTLSSettings, at string) {
	if t == nil {
		return
	}
	switch t.Mode {
	case networking.ClientTLSSettings_MUTUAL:
		c.fail(CodeNotSupported, at+".mode", "egret does not support MUTUAL yet: it has no client certificate to show. SIMPLE (TLS that checks the server) and DISABLE are supported")
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		c.fail(CodeNotSupported, at+".mode", "egret does not support ISTIO_MUTUAL yet: its proxies have no mesh certificates. For the egress gateway leave tls out, the hop to it does not leave the machine; for external hosts use SIMPLE")
	}
	c.refused(t.CredentialName != "", at+".credentialName", "there are no Kubernetes secrets to read it from; use caCertificates with a file")
	c.refused(t.CaCrl != "", at+".caCrl", "ignoring it would accept revoked certificates")
	if t.Mode == networking.ClientTLSSettings_SIMPLE {
		c.ignored(t.ClientCertificate != "" || t.PrivateKey != "", at+".clientCertificate", "mode SIMPLE shows no client certificate")
	}
	if t.GetInsecureSkipVerify().GetValue() {
		if t.CaCertificates != "" || len(t.SubjectAltNames) > 0 {
			c.fail(CodeConflict, at+".insecureSkipVerify", "cannot be set together with caCertificates or subjectAltNames")
		} else {
			c.warn(CodeInvalid, at+".insecureSkipVerify", "the server's certificate is not checked: anybody on the way can answer")
		}
	}
	if t.Sni != "" {
		c.host(at+".sni", checkFQDN(t.Sni))
	}
}
