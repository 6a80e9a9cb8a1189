package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/egret-mesh/egret/bench/control"
)

// originHost is the name in every request.
const originHost = "origin.bench.test"

// others is how many services each proxy has routes for besides the origin.
const others = 100

// otherHost is the name of one of them.
func otherHost(i int) string { return fmt.Sprintf("other-%d.bench.test", i) }

// tcpAddress is what the origin's TCP ports have as their address in the registry.
var tcpAddress = netip.MustParseAddr("240.0.9.1")

// Ports of the origin in the registry.
const (
	httpPort  = 80
	tlsPort   = 443
	bulkPort  = 9001
	shortPort = 9002
	tlsShort  = 9443
)

// entry is a ServiceEntry with one endpoint.
type entry struct {
	name, host string
	address    string // of the service; "": the DNS proxy gives it one
	ports      []entryPort
}

type entryPort struct {
	number   int
	protocol string
	target   string // 127.0.0.1:port
}

func (e entry) yaml(b *strings.Builder) {
	fmt.Fprintf(b, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"+
		"metadata: {name: %q, namespace: default}\nspec:\n  hosts: [%q]\n", e.name, e.host)
	if e.address != "" {
		fmt.Fprintf(b, "  addresses: [%q]\n", e.address)
	}
	b.WriteString("  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports:\n")
	for _, p := range e.ports {
		_, port, _ := strings.Cut(p.target, ":")
		fmt.Fprintf(b, "  - {number: %d, name: p-%d, protocol: %s, targetPort: %s}\n", p.number, p.number, p.protocol, port)
	}
	b.WriteString("  endpoints: [{address: 127.0.0.1}]\n")
}

// registryYAML is the origin's entries and n others with an HTTP port.
func registryYAML(origins []entry, n int) string {
	var b strings.Builder
	for _, e := range origins {
		e.yaml(&b)
	}
	for i := range n {
		entry{name: fmt.Sprintf("other-%d", i), host: otherHost(i), ports: origins[0].ports[:1]}.yaml(&b)
	}
	return b.String()
}

// httpOrigin is the entry of an HTTP origin.
func httpOrigin(target, protocol string) entry {
	return entry{name: "origin", host: originHost, ports: []entryPort{{httpPort, protocol, target}}}
}

// changes makes configuration changes: a service more, and one less, in turns.
func changes(p *control.Plane, yaml string) func(n int) error {
	return func(n int) error {
		if n%2 == 1 {
			return p.Change(yaml)
		}
		var b strings.Builder
		entry{name: "changed", host: "changed.bench.test", ports: []entryPort{{httpPort, "HTTP", "127.0.0.1:9"}}}.yaml(&b)
		return p.Change(yaml + b.String())
	}
}
