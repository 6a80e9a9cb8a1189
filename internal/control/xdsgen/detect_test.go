package xdsgen

import (
	"slices"
	"testing"
)

// undeclared are ports without a protocol: one with an address of its own, one without.
const undeclared = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vip, namespace: default}
spec:
  hosts: [vip.example.com]
  addresses: [192.0.2.10]
  ports: [{number: 8080, name: http-looks-like-it}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.11}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere, namespace: default}
spec:
  hosts: [any.example.com]
  ports: [{number: 9090, name: any}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.example.com]
  ports: [{number: 9090, name: http, protocol: HTTP}]
  resolution: DNS
`

// A port whose protocol is not declared is HTTP where that is spoken, else TCP.
func TestUndeclaredProtocol(t *testing.T) {
	g := world{yaml: undeclared}.generate(t, sidecarNode)
	const vip, anywhere = "outbound|8080||vip.example.com", "outbound|9090||any.example.com"
	for name, c := range map[string]struct {
		call call
		want string
	}{
		"HTTP":                     {call{to: "192.0.2.10:8080", host: "vip.example.com"}, vip},
		"HTTP with its port":       {call{to: "192.0.2.10:8080", host: "vip.example.com:8080"}, vip},
		"HTTP with another name":   {call{to: "192.0.2.10:8080", host: "evil.example.com"}, "502"},
		"TLS":                      {call{to: "192.0.2.10:8080", sni: "vip.example.com"}, vip},
		"bytes":                    {call{to: "192.0.2.10:8080"}, vip},
		"HTTP without an address":  {call{to: "203.0.113.1:9090", host: "any.example.com"}, anywhere},
		"HTTP of a declared port":  {call{to: "203.0.113.1:9090", host: "web.example.com"}, "outbound|9090||web.example.com"},
		"HTTP of an unknown host":  {call{to: "203.0.113.1:9090", host: "evil.example.com"}, "502"},
		"bytes without an address": {call{to: "203.0.113.1:9090"}, anywhere},
		"TLS without an address":   {call{to: "203.0.113.1:9090", sni: "-"}, anywhere},
	} {
		if got := g.outcome(t, c.call); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for _, name := range []string{"192.0.2.10_8080", "0.0.0.0_9090"} {
		l := g.listeners[name]
		if !inspects(l, "tls_inspector") || !inspects(l, "http_inspector") {
			t.Errorf("%s does not look at the bytes: %v", name, l.GetListenerFilters())
		}
	}
	if g.routes["vip.example.com:8080"] == nil || g.routes["9090"] == nil {
		t.Error("the route configurations do not have Istio's names")
	}
	var clusters []string
	for name, c := range g.clusters {
		if c.GetTypedExtensionProtocolOptions() != nil {
			clusters = append(clusters, name)
		}
	}
	if !slices.Contains(clusters, vip) || slices.Contains(clusters, "outbound|9090||web.example.com") {
		t.Errorf("protocol options have %q", clusters)
	}
}
