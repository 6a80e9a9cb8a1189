package istioapi

import (
	"path"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

const unixPrefix = "unix://"

func (c *checker) serviceEntry(s *networking.ServiceEntry) {
	c.serviceHosts(s)
	cidr := false
	for i, a := range s.Addresses {
		c.cidr(index("spec.addresses", i), a)
		cidr = cidr || strings.Contains(a, "/")
	}
	static := s.Resolution == networking.ServiceEntry_NONE || s.Resolution == networking.ServiceEntry_STATIC
	if cidr && !static {
		c.fail(CodeConflict, "spec.addresses", "ranges (CIDR) are possible only with resolution NONE or STATIC, not %s", s.Resolution)
	}
	names := c.servicePorts(s)
	if s.WorkloadSelector != nil {
		c.selector("spec.workloadSelector.labels", s.WorkloadSelector.Labels)
		if len(s.Endpoints) > 0 {
			c.fail(CodeConflict, "spec.workloadSelector", "cannot be set together with endpoints")
		}
	}
	c.resolution(s, names)
	c.exportTo("spec.exportTo", s.ExportTo, true)
}

func (c *checker) serviceHosts(s *networking.ServiceEntry) {
	if len(s.Hosts) == 0 {
		c.fail(CodeMissing, "spec.hosts", "is required: at least one host")
	}
	var seen []string
	for i, h := range s.Hosts {
		at := index("spec.hosts", i)
		if h == "*" {
			c.fail(CodeInvalidHost, at, `"*" is not possible in a ServiceEntry; to allow every host set outboundTrafficPolicy.mode ALLOW_ANY`)
			continue
		}
		c.host(at, checkWildcard(h))
		if lower := strings.ToLower(h); slices.Contains(seen, lower) {
			c.warn(CodeDuplicate, at, "%q is there twice", h)
		} else {
			seen = append(seen, lower)
		}
	}
}

// servicePorts checks the ports and returns their names.
func (c *checker) servicePorts(s *networking.ServiceEntry) []string {
	if len(s.Ports) == 0 {
		c.warn(CodeNoEffect, "spec.ports", "there are no ports: nothing can be called")
	}
	var names []string
	numbers := map[uint32]bool{}
	for i, p := range s.Ports {
		at := index("spec.ports", i)
		if p.Number == 0 && c.m.Lines[at+".number"] == 0 {
			c.fail(CodeMissing, at+".number", "is required")
		} else {
			c.port(at+".number", p.Number)
		}
		if numbers[p.Number] {
			c.fail(CodeDuplicate, at+".number", "port %d is there twice", p.Number)
		}
		numbers[p.Number] = true
		switch {
		case p.Name == "":
			c.fail(CodeMissing, at+".name", "is required")
		case slices.Contains(names, p.Name):
			c.fail(CodeDuplicate, at+".name", "the name %q is there twice", p.Name)
		default:
			c.label(at+".name", "port name", p.Name)
		}
		names = append(names, p.Name)
		if p.TargetPort != 0 {
			c.port(at+".targetPort", p.TargetPort)
			if s.Resolution == networking.ServiceEntry_NONE {
				c.warn(CodeNoEffect, at+".targetPort", "has no effect with resolution NONE")
			}
		}
		c.serviceProtocol(s, p, at)
	}
	return names
}

func (c *checker) serviceProtocol(s *networking.ServiceEntry, p *networking.ServicePort, at string) {
	at += ".protocol"
	switch strings.ToUpper(p.Protocol) {
	case "":
		c.info(CodeNoEffect, at, "is not set: HTTP is detected, all else is TCP. A protocol where the server speaks first waits for the detection to give up: declare TCP for it")
		return
	case "UDP":
		c.warn(CodeNotImplemented, at, "UDP is not captured: what the workload sends to this port is refused")
	default:
		c.protocol(at, p.Protocol)
	}
	if s.Resolution != networking.ServiceEntry_NONE && len(s.Hosts) > 1 && !isHTTP(p.Protocol) && !isTLS(p.Protocol) {
		c.fail(CodeConflict, at, "a %s port is possible with only one host: nothing in the bytes tells the hosts apart. Write one ServiceEntry for each host", p.Protocol)
	}
}

// resolution checks hosts and endpoints against spec.resolution.
func (c *checker) resolution(s *networking.ServiceEntry, ports []string) {
	r := s.Resolution
	switch r {
	case networking.ServiceEntry_NONE:
		if len(s.Endpoints) > 0 {
			c.fail(CodeConflict, "spec.endpoints", "endpoints are not possible with resolution NONE; set resolution STATIC (addresses) or DNS (names)")
		}
		if s.WorkloadSelector != nil {
			c.warn(CodeNoEffect, "spec.workloadSelector", "has no effect with resolution NONE")
		}
		return
	case networking.ServiceEntry_STATIC:
		if len(s.Endpoints) == 0 && s.WorkloadSelector == nil {
			c.warn(CodeNoEffect, "spec.endpoints", "there are no endpoints, which resolution STATIC needs: every call fails with no_healthy_upstream")
		}
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		if len(s.Endpoints) == 0 && s.WorkloadSelector == nil {
			c.resolvableHosts(s)
		}
		if r == networking.ServiceEntry_DNS_ROUND_ROBIN && len(s.Endpoints) > 1 {
			c.fail(CodeConflict, "spec.endpoints", "only one endpoint is possible with resolution DNS_ROUND_ROBIN")
		}
		if s.WorkloadSelector != nil {
			c.warn(CodeNoEffect, "spec.workloadSelector", "should be used with resolution STATIC, not %s", r)
		}
	default:
		c.fail(CodeNotSupported, "spec.resolution", "egret does not support %s; for wildcard hosts use NONE: egret resolves the name itself when it is dialled", r)
		return
	}
	for i, e := range s.Endpoints {
		at := index("spec.endpoints", i)
		c.workloadEntry(e, at, ports, r != networking.ServiceEntry_STATIC)
		if strings.HasPrefix(e.Address, unixPrefix) {
			if r != networking.ServiceEntry_STATIC {
				c.fail(CodeConflict, at+".address", "a Unix socket is possible only with resolution STATIC")
			}
			if len(s.Ports) != 1 {
				c.fail(CodeConflict, at+".address", "a Unix socket needs exactly one port in spec.ports")
			}
		}
	}
}

func (c *checker) resolvableHosts(s *networking.ServiceEntry) {
	for i, h := range s.Hosts {
		if strings.HasPrefix(h, "*") && h != "*" {
			c.fail(CodeConflict, index("spec.hosts", i), "a wildcard cannot be resolved: with resolution %s give endpoints, or use resolution NONE (the name that is called is resolved)", s.Resolution)
		}
	}
}

// workloadEntry checks an endpoint. ports are the service's port names; nil: unknown.
func (c *checker) workloadEntry(w *networking.WorkloadEntry, at string, ports []string, names bool) {
	addressAt := at + ".address"
	socket, isUnix := strings.CutPrefix(w.Address, unixPrefix)
	switch {
	case w.Address == "" && w.Network == "":
		c.fail(CodeMissing, addressAt, "is required")
	case w.Address == "":
		c.warn(CodeNotImplemented, addressAt, "is not set: egret does not route by network, the endpoint is not used")
	case isUnix:
		c.ignored(true, addressAt, "a Unix socket is not connected to, the endpoint is left out")
		abstract := strings.HasPrefix(socket, "@")
		if !abstract && (!path.IsAbs(socket) || strings.HasSuffix(socket, "/")) {
			c.fail(CodeInvalidAddress, addressAt, "%q is not an absolute path to a Unix socket", socket)
		}
		if len(w.Ports) > 0 {
			c.fail(CodeConflict, at+".ports", "a Unix socket has no ports")
		}
	case isIP(w.Address):
	case !names:
		c.fail(CodeInvalidAddress, addressAt, "%q is not an IP address, which resolution STATIC needs; use resolution DNS for names", w.Address)
	default:
		if err := checkFQDN(w.Address); err != nil {
			c.fail(CodeInvalidAddress, addressAt, "neither an IP address nor a host name: %v", err)
		}
	}
	for _, name := range sortedKeys(w.Ports) {
		portAt := join(at+".ports", name)
		if ports != nil && !slices.Contains(ports, name) {
			c.fail(CodeInvalid, portAt, "spec.ports has no port of this name%s", Suggest(name, ports))
		}
		c.label(portAt, "port name", name)
		c.port(portAt, w.Ports[name])
	}
	c.labels(at+".labels", w.Labels)
}
