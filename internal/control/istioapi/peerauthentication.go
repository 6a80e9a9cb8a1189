package istioapi

import (
	"fmt"
	"maps"
	"slices"

	security "istio.io/api/security/v1beta1"
)

// peerAuthentication checks as Istio does (ValidatePeerAuthentication): settings for ports
// need a selector.
func (c *checker) peerAuthentication(p *security.PeerAuthentication) {
	labels := p.GetSelector().GetMatchLabels()
	if p.GetSelector() != nil {
		c.selector("spec.selector.matchLabels", labels)
	}
	const ports = "spec.portLevelMtls"
	switch {
	case p.PortLevelMtls == nil:
	case len(p.PortLevelMtls) == 0:
		c.fail(CodeMissing, ports, "is empty: write at least one port, or leave it out")
	case len(labels) == 0:
		c.fail(CodeConflict, ports, "is possible only with a selector that has labels")
	}
	for _, port := range slices.Sorted(maps.Keys(p.PortLevelMtls)) {
		c.port(join(ports, fmt.Sprint(port)), port)
	}
	if !c.rules.Pods {
		c.warn(CodeNotUsed, "spec", "not used by egret on one machine: there is no mutual TLS between its proxies")
	}
}
