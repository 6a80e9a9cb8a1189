package istioapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func (c *checker) gateway(g *networking.Gateway) {
	c.label("metadata.name", "gateway name", c.m.Name)
	if len(g.Servers) == 0 {
		c.fail(CodeMissing, "spec.servers", "is required: at least one server")
	}
	if len(g.Selector) == 0 {
		c.warn(CodeNoEffect, "spec.selector", "is empty: the servers apply to every gateway; for the egress gateway write istio: egressgateway")
	}
	c.labels("spec.selector", g.Selector)
	names := map[string]bool{}
	for i, s := range g.Servers {
		at := index("spec.servers", i)
		c.server(s, at)
		if name := s.Port.GetName(); name != "" {
			if names[name] {
				c.fail(CodeDuplicate, at+".port.name", "the name %q is there twice", name)
			}
			names[name] = true
		}
	}
}

func (c *checker) server(s *networking.Server, at string) {
	if len(s.Hosts) == 0 {
		c.fail(CodeMissing, at+".hosts", "is required: at least one host")
	}
	for i, h := range s.Hosts {
		c.host(index(at+".hosts", i), checkNamespacedHost(h, true))
	}
	c.refused(s.Bind != "", at+".bind", "the egress gateway listens on all its addresses; leave bind out")
	c.ignored(s.DefaultEndpoint != "", at+".defaultEndpoint", "write a VirtualService with the destination")
	if s.Port == nil {
		c.fail(CodeMissing, at+".port", "is required")
		return
	}
	c.port(at+".port.number", s.Port.Number)
	if s.Port.Name == "" {
		c.fail(CodeMissing, at+".port.name", "is required")
	}
	//lint:ignore SA1019 refused because it is deprecated
	if s.Port.TargetPort > 0 {
		c.fail(CodeInvalid, at+".port.targetPort", "has no effect on gateways; remove it")
	}
	c.serverProtocol(s, at)
	c.serverTLS(s, at)
}

func (c *checker) serverProtocol(s *networking.Server, at string) {
	at += ".port.protocol"
	switch strings.ToUpper(s.Port.Protocol) {
	case "":
		c.fail(CodeMissing, at, "is required, for instance HTTP or TLS")
	case "UDP":
		c.warn(CodeNotImplemented, at, "a gateway does not serve UDP; the server is ignored")
	default:
		c.protocol(at, s.Port.Protocol)
	}
}

// checkNamespacedHost checks "namespace/host", and for a gateway "host" alone, too.
func checkNamespacedHost(s string, gateway bool) error {
	namespace, host, ok := strings.Cut(s, "/")
	switch {
	case !ok && gateway:
		host = s
	case !ok:
		return fmt.Errorf(`%q must have the form "namespace/host", for instance "./%s" (this namespace) or "*/%s" (all)`, s, s, s)
	case namespace == "" || host == "":
		return fmt.Errorf("%q: neither the namespace nor the host may be empty", s)
	case gateway && namespace != "*" && namespace != "." && !IsLabel(namespace):
		return fmt.Errorf(`%q: %q is not a namespace, "." or "*"`, s, namespace)
	case !gateway && !slices.Contains([]string{"*", ".", "~"}, namespace) && !IsLabel(namespace):
		return fmt.Errorf(`%q: %q is not a namespace, ".", "*" or "~"`, s, namespace)
	}
	if gateway && isIP(host) {
		return nil
	}
	if err := checkWildcard(host); err != nil {
		return err
	}
	if host != "*" && !strings.Contains(host, ".") {
		return errors.New("short names are not possible here, write the full name: " + host)
	}
	return nil
}
