package istioapi

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func (c *checker) sidecar(s *networking.Sidecar) {
	if s.WorkloadSelector != nil {
		c.selector("spec.workloadSelector.labels", s.WorkloadSelector.Labels)
	}
	if len(s.Egress) == 0 && len(s.Ingress) == 0 && s.OutboundTrafficPolicy == nil && s.InboundConnectionPool == nil {
		c.fail(CodeMissing, "spec", "is empty: write egress or outboundTrafficPolicy")
	}
	c.ignored(len(s.Ingress) > 0, "spec.ingress", "only outgoing connections are handled")
	c.ignored(s.InboundConnectionPool != nil, "spec.inboundConnectionPool", "only outgoing connections are handled")
	ports := map[uint32]bool{}
	for i, e := range s.Egress {
		at := index("spec.egress", i)
		c.egressListener(e, at)
		switch number := e.Port.GetNumber(); {
		case e.Port == nil && i < len(s.Egress)-1:
			c.fail(CodeConflict, at, "an entry without port takes every port: it must be the last one, and the only one")
		case e.Port != nil && ports[number]:
			c.fail(CodeDuplicate, at+".port.number", "port %d is there twice", number)
		case e.Port != nil:
			ports[number] = true
		}
	}
	if proxy := s.OutboundTrafficPolicy.GetEgressProxy(); proxy != nil {
		const at = "spec.outboundTrafficPolicy.egressProxy"
		if s.OutboundTrafficPolicy.Mode != networking.OutboundTrafficPolicy_ALLOW_ANY {
			c.fail(CodeConflict, at, "is possible only with mode ALLOW_ANY")
		}
		c.destination(proxy, at)
		if proxy.Port == nil {
			c.fail(CodeMissing, at+".port", "is required")
		}
	}
}

func (c *checker) egressListener(e *networking.IstioEgressListener, at string) {
	c.refused(e.CaptureMode == networking.CaptureMode_NONE, at+".captureMode", "there is no listener that is not captured")
	c.refused(e.Bind != "", at+".bind", "listeners with an address of their own; leave bind out")
	if p := e.Port; p != nil {
		c.port(at+".port.number", p.Number)
		if p.Name != "" {
			c.label(at+".port.name", "port name", p.Name)
		}
		if p.Protocol != "" {
			c.protocol(at+".port.protocol", p.Protocol)
		}
		//lint:ignore SA1019 refused because it is deprecated
		if p.TargetPort > 0 {
			c.fail(CodeInvalid, at+".port.targetPort", "has no effect on Sidecars; remove it")
		}
	}
	if len(e.Hosts) == 0 {
		c.fail(CodeMissing, at+".hosts", `is required: at least one host, for instance "./*"`)
	}
	seen := map[string]bool{}
	for i, h := range e.Hosts {
		hostAt := index(at+".hosts", i)
		if !c.host(hostAt, checkNamespacedHost(h, false)) {
			continue
		}
		namespace, host, _ := strings.Cut(strings.ToLower(h), "/")
		if namespace == "." {
			namespace = c.m.Namespace
		}
		switch key := namespace + "/" + host; {
		case seen[key]:
			c.warn(CodeDuplicate, hostAt, "%q is there twice", h)
		case key != "*/*" && seen["*/*"] || host != "*" && seen[namespace+"/*"]:
			c.warn(CodeNoEffect, hostAt, "%q has no effect: an earlier entry takes all of it", h)
		default:
			seen[key] = true
		}
	}
}
