package istioapi

import (
	"fmt"
	"net/netip"
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
	c.ingress(s.Ingress)
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

// ingress checks what says which connections to the workload are taken how.
func (c *checker) ingress(list []*networking.IstioIngressListener) {
	if len(list) > 0 && !c.rules.Pods {
		c.ignored(true, "spec.ingress", "on one machine only outgoing connections are handled")
		return
	}
	ports := map[uint32]bool{}
	for i, l := range list {
		at := index("spec.ingress", i)
		if l.Port == nil {
			c.fail(CodeMissing, at+".port", "is required")
			continue
		}
		if c.sidecarPort(l.Port, at+".port"); ports[l.Port.Number] {
			c.fail(CodeDuplicate, at+".port.number", "port %d is there twice", l.Port.Number)
		}
		ports[l.Port.Number] = true
		c.refused(l.CaptureMode == networking.CaptureMode_NONE, at+".captureMode", "there is no listener that is not captured")
		c.refused(l.Tls != nil, at+".tls", "TLS that the sidecar ends for clients that are not of the mesh; let the application end it")
		c.ignored(l.ConnectionPool != nil, at+".connectionPool", "limits are the DestinationRule's, where calls are made")
		if l.Bind != "" {
			if _, err := netip.ParseAddr(l.Bind); err != nil {
				c.fail(CodeInvalidAddress, at+".bind", "%q is not an IP address", l.Bind)
			}
			c.info(CodeNoEffect, at+".bind", "connections are captured, whatever address of the pod they are for")
		}
		if strings.HasPrefix(l.DefaultEndpoint, "unix:") {
			c.refused(true, at+".defaultEndpoint", "a socket of the file system, which the sidecar does not share with the application")
		} else if _, err := IngressEndpoint(l.DefaultEndpoint); err != nil {
			c.fail(CodeInvalidAddress, at+".defaultEndpoint", "%v", err)
		}
	}
}

// IngressEndpoint reads a Sidecar's ingress.defaultEndpoint: a port of the loopback address, or
// of the pod's own, which is written as the unspecified one. The zero value, for "", is the
// address and port that were called.
func IngressEndpoint(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return a, fmt.Errorf("%q is not an address with a port", text)
	}
	switch a.Addr() {
	case netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), netip.IPv4Unspecified(), netip.IPv6Unspecified():
	default:
		return a, fmt.Errorf("%q is neither at 127.0.0.1 nor at 0.0.0.0 (nor [::1] or [::]), which are all that the application can be at", text)
	}
	if a.Port() == 0 {
		return a, fmt.Errorf("%q has no port", text)
	}
	return a, nil
}

// sidecarPort checks the port of a Sidecar's listener.
func (c *checker) sidecarPort(p *networking.SidecarPort, at string) {
	c.port(at+".number", p.Number)
	if p.Name != "" {
		c.label(at+".name", "port name", p.Name)
	}
	if p.Protocol != "" {
		c.protocol(at+".protocol", p.Protocol)
	}
	//lint:ignore SA1019 refused because it is deprecated
	if p.TargetPort > 0 {
		c.fail(CodeInvalid, at+".targetPort", "has no effect on Sidecars; remove it")
	}
}

func (c *checker) egressListener(e *networking.IstioEgressListener, at string) {
	c.refused(e.CaptureMode == networking.CaptureMode_NONE, at+".captureMode", "there is no listener that is not captured")
	c.refused(e.Bind != "", at+".bind", "listeners with an address of their own; leave bind out")
	if p := e.Port; p != nil {
		c.sidecarPort(p, at+".port")
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
