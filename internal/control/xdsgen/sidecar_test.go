package xdsgen

import (
	"slices"
	"testing"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// serviceEntries are one of each kind.
const serviceEntries = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [www.example.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec:
  hosts: ["*.wild.example"]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: tls, protocol: TLS}
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mysql, namespace: default}
spec:
  hosts: [db.example.com]
  addresses: [192.0.2.10, "2001:db8::10"]
  ports: [{number: 3306, name: mysql, protocol: MYSQL}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.11, ports: {mysql: 13306}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: net, namespace: default}
spec:
  hosts: [net.example.com]
  addresses: [198.51.100.0/24]
  ports:
  - {number: 3306, name: tcp, protocol: TCP}
  - {number: 443, name: tls, protocol: TLS}
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: open, namespace: default}
spec:
  hosts: [open.example.com]
  ports: [{number: 9000, name: tcp, protocol: TCP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: auto, namespace: default}
spec:
  hosts: [auto.example.com]
  ports:
  - {number: 9001, name: tcp, protocol: TCP}
  - {number: 443, name: https, protocol: HTTPS}
  - {number: 80, name: http, protocol: GRPC}
  resolution: DNS_ROUND_ROBIN
`

func TestServiceEntryKinds(t *testing.T) {
	g := world{yaml: serviceEntries}.generate(t, sidecarNode)
	g.check(t, []step{
		{call{to: "1.1.1.1:80", host: "www.example.com"}, "outbound|80||www.example.com"},
		{call{to: "1.1.1.1:80", host: "www.example.com:80"}, "outbound|80||www.example.com"},
		{call{to: "1.1.1.1:80", host: "www.google.com"}, "502"},
		{call{to: "1.1.1.1:80"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:8080", host: "www.example.com"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:443", sni: "www.example.com"}, "outbound|443||www.example.com"},
		{call{to: "1.1.1.1:443", sni: "www.google.com"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:443", sni: "-"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:80", host: "a.wild.example"}, "outbound|80||*.wild.example"},
		{call{to: "1.1.1.1:80", host: "a.b.wild.example"}, "outbound|80||*.wild.example"},
		{call{to: "1.1.1.1:80", host: "wild.example"}, "502"},
		{call{to: "1.1.1.1:443", sni: "a.wild.example"}, "outbound|443||*.wild.example"},
		{call{to: "1.1.1.1:443", sni: "wild.example"}, "BlackHoleCluster"},
		{call{to: "192.0.2.10:3306"}, "outbound|3306||db.example.com"},
		{call{to: "[2001:db8::10]:3306"}, "outbound|3306||db.example.com"},
		{call{to: "192.0.2.12:3306"}, "BlackHoleCluster"},
		{call{to: "198.51.100.7:3306"}, "outbound|3306||net.example.com"},
		{call{to: "198.51.100.7:443", sni: "net.example.com"}, "outbound|443||net.example.com"},
		{call{to: "1.1.1.1:443", sni: "net.example.com"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:9000"}, "outbound|9000||open.example.com"},
		{call{to: "1.1.1.1:9001"}, "outbound|9001||auto.example.com"},
		{call{to: "1.1.1.1:22"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:15001"}, "BlackHoleCluster"},
	})
	for name, want := range map[string]string{
		"outbound|80||www.example.com":    "STRICT_DNS www.example.com:80",
		"outbound|443||*.wild.example":    "ORIGINAL_DST",
		"outbound|3306||db.example.com":   "EDS 192.0.2.11:13306",
		"outbound|9001||auto.example.com": "LOGICAL_DNS auto.example.com:9001",
		"BlackHoleCluster":                "STATIC",
		"PassthroughCluster":              "ORIGINAL_DST",
	} {
		if got := g.cluster(name); got != want {
			t.Errorf("cluster %s: got %q, want %q", name, got, want)
		}
	}
	if g.clusters["outbound|80||auto.example.com"].GetTypedExtensionProtocolOptions()[httpOptionsKey] == nil {
		t.Error("a GRPC port's cluster has no HTTP/2 options")
	}
}

func TestAllowAny(t *testing.T) {
	w := world{yaml: serviceEntries, options: mesh.Options{DefaultPolicy: mesh.AllowAny}}
	g := w.generate(t, captured())
	g.check(t, []step{
		{call{to: "1.1.1.1:80", host: "www.google.com"}, "PassthroughCluster"},
		{call{to: "1.1.1.1:80"}, "PassthroughCluster"},
		{call{to: "1.1.1.1:443", sni: "www.google.com"}, "PassthroughCluster"},
		{call{to: "1.1.1.1:22"}, "PassthroughCluster"},
		{call{to: "1.1.1.1:15001"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:80", host: "www.example.com"}, "outbound|80||www.example.com"},
	})
	if _, ok := g.names(t)["*"]; !ok {
		t.Error(`the name table has no "*"`)
	}
}

// With DNS capture TCP services without addresses get listeners of their own; TLS is
// told apart by SNI, whatever the address: so a call without SNI, or with another one
// than the address is for, can be refused.
func TestAutomaticAddresses(t *testing.T) {
	w := world{yaml: serviceEntries}
	g := w.generate(t, captured())
	names := g.names(t)
	vip := names["auto.example.com"].IPs
	if len(vip) != 1 {
		t.Fatalf("auto.example.com has addresses %q, want one", vip)
	}
	g.check(t, []step{
		{call{to: vip[0] + ":9001"}, "outbound|9001||auto.example.com"},
		{call{to: vip[0] + ":443", sni: "auto.example.com"}, "outbound|443||auto.example.com"},
		{call{to: vip[0] + ":80", host: "auto.example.com"}, "outbound|80||auto.example.com"},
		{call{to: vip[0] + ":80", host: vip[0]}, "outbound|80||auto.example.com"},
		{call{to: "1.1.1.1:9001"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:443", sni: "www.example.com"}, "outbound|443||www.example.com"},
		{call{to: vip[0] + ":443", sni: "evil.example.net"}, "BlackHoleCluster"},
		{call{to: vip[0] + ":443"}, "BlackHoleCluster"},
		{call{to: names["www.example.com"].IPs[0] + ":443", sni: "www.example.com"}, "outbound|443||www.example.com"},
		{call{to: "1.1.1.1:443", sni: "a.wild.example"}, "outbound|443||*.wild.example"},
	})
	for name, want := range map[string][]string{
		"*.wild.example":   nil,
		"open.example.com": nil,
		"net.example.com":  {"198.51.100.0/24"},
		"db.example.com":   {"192.0.2.10", "2001:db8::10"},
	} {
		info, ok := names[name]
		if !ok || !slices.Equal(info.IPs, want) {
			t.Errorf("name %s: got %q (known: %t), want %q", name, info.IPs, ok, want)
		}
	}
	if _, ok := names["*"]; ok {
		t.Error(`under REGISTRY_ONLY the name table has "*"`)
	}
	if n := w.generate(t, sidecarNode).raw["type.googleapis.com/istio.networking.nds.v1.NameTable"]; len(n) != 0 {
		t.Error("a node without DNS capture got a name table")
	}
}

func TestMixedProtocolsOnOnePort(t *testing.T) {
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: http, namespace: default}
spec: {hosts: [http.example], ports: [{number: 443, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tls, namespace: default}
spec: {hosts: [tls.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
`
	const tcp = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tcp, namespace: default}
spec: {hosts: [tcp.example], ports: [{number: 443, name: tcp, protocol: TCP}], resolution: NONE}
`
	world{yaml: yaml}.generate(t, sidecarNode).check(t, []step{
		{call{to: "1.1.1.1:443", host: "http.example"}, "outbound|443||http.example"},
		{call{to: "1.1.1.1:443", host: "tls.example"}, "502"},
		{call{to: "1.1.1.1:443", sni: "tls.example"}, "outbound|443||tls.example"},
		{call{to: "1.1.1.1:443", sni: "http.example"}, "BlackHoleCluster"},
		{call{to: "1.1.1.1:443"}, "BlackHoleCluster"},
	})
	world{yaml: yaml + tcp}.generate(t, sidecarNode).check(t, []step{
		{call{to: "1.1.1.1:443", host: "http.example"}, "outbound|443||http.example"},
		{call{to: "1.1.1.1:443", sni: "tls.example"}, "outbound|443||tls.example"},
		{call{to: "1.1.1.1:443", sni: "other.example"}, "outbound|443||tcp.example"},
		{call{to: "1.1.1.1:443"}, "outbound|443||tcp.example"},
	})
}

// Services that share an address and port are told apart by SNI.
func TestSharedAddress(t *testing.T) {
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: default}
spec:
  hosts: [a.example, b.example]
  addresses: [192.0.2.1]
  ports:
  - {number: 443, name: tls, protocol: TLS}
  - {number: 80, name: http, protocol: HTTP}
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
`
	world{yaml: yaml}.generate(t, sidecarNode).check(t, []step{
		{call{to: "192.0.2.1:443", sni: "a.example"}, "outbound|443||a.example"},
		{call{to: "192.0.2.1:443", sni: "b.example"}, "outbound|443||b.example"},
		{call{to: "192.0.2.1:80", host: "b.example"}, "outbound|80||b.example"},
		{call{to: "192.0.2.1:80", host: "192.0.2.1"}, "outbound|80||a.example"},
	})
}

func TestExportTo(t *testing.T) {
	const yaml = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: other}
spec: {hosts: [private.example], exportTo: ["."], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: given, namespace: other}
spec: {hosts: [given.example], exportTo: ["default"], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: public, namespace: other}
spec: {hosts: [public.example], exportTo: ["*"], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: unsaid, namespace: other}
spec: {hosts: [unsaid.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
`
	const config = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    defaultServiceExportTo: ["."]
`
	steps := []step{
		{call{to: "1.1.1.1:80", host: "private.example"}, "502"},
		{call{to: "1.1.1.1:80", host: "given.example"}, "outbound|80||given.example"},
		{call{to: "1.1.1.1:80", host: "public.example"}, "outbound|80||public.example"},
		{call{to: "1.1.1.1:80", host: "unsaid.example"}, "outbound|80||unsaid.example"},
	}
	world{yaml: yaml}.generate(t, sidecarNode).check(t, steps)
	steps[3].want = "502"
	world{yaml: yaml + config}.generate(t, sidecarNode).check(t, steps)
	other := sidecarNode
	other.Namespace = "other"
	steps[0].want, steps[1].want, steps[3].want = "outbound|80||private.example", "502", "outbound|80||unsaid.example"
	world{yaml: yaml + config}.generate(t, other).check(t, steps)
}

func TestMeshConfigPolicy(t *testing.T) {
	for mode, want := range map[string]string{
		"": "PassthroughCluster", "outboundTrafficPolicy: {mode: ALLOW_ANY}": "PassthroughCluster",
		"outboundTrafficPolicy: {mode: REGISTRY_ONLY}": "BlackHoleCluster",
	} {
		g := world{yaml: `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    ` + mode}.generate(t, sidecarNode)
		if got := g.outcome(t, call{to: "1.1.1.1:22"}); got != want {
			t.Errorf("MeshConfig with %q: got %s, want %s", mode, got, want)
		}
	}
}

func TestSidecarScope(t *testing.T) {
	const scope = `
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: default}
spec:
  workloadSelector: {labels: {run: test}}
  outboundTrafficPolicy: {mode: ALLOW_ANY}
  egress:
  - port: {number: 3306, name: tcp, protocol: TCP}
    hosts: ["./db.example.com"]
  - hosts: ["./*.wild.example", "~/*"]
`
	w := world{yaml: serviceEntries + scope}
	g := w.generate(t, sidecarNode)
	g.check(t, []step{
		{call{to: "1.1.1.1:80", host: "a.wild.example"}, "outbound|80||*.wild.example"},
		{call{to: "1.1.1.1:80", host: "www.example.com"}, "PassthroughCluster"},
		{call{to: "192.0.2.10:3306"}, "outbound|3306||db.example.com"},
		{call{to: "198.51.100.7:3306"}, "PassthroughCluster"},
	})
	if g.clusters["outbound|80||www.example.com"] != nil {
		t.Error("a cluster of a service that is not imported")
	}
	other := sidecarNode
	other.Labels = nil
	w.generate(t, other).check(t, []step{
		{call{to: "1.1.1.1:80", host: "www.example.com"}, "outbound|80||www.example.com"},
		{call{to: "1.1.1.1:22"}, "BlackHoleCluster"},
	})
}

func TestDualStackWildcardListeners(t *testing.T) {
	n := sidecarNode
	n.Addresses = parseAddresses("10.0.0.1", "fd00::1")
	g := world{yaml: serviceEntries}.generate(t, n)
	for _, name := range []string{"virtualOutbound", "0.0.0.0_80"} {
		a := g.listeners[name].GetAdditionalAddresses()
		if len(a) != 1 || a[0].GetAddress().GetSocketAddress().GetAddress() != "::" {
			t.Errorf("listener %s has additional addresses %v, want [::]", name, a)
		}
	}
	if got := g.clusters["outbound|80||www.example.com"].GetDnsLookupFamily().String(); got != "ALL" {
		t.Errorf("DNS family %s, want ALL", got)
	}
}
