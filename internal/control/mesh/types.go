// Package mesh holds the immutable snapshot of everything the control plane knows,
// and its indexes. A new snapshot is built whole from objects; nothing is filled
// in later. It is pure: no clocks, no sockets, no environment.
package mesh

import (
	"net/netip"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// NodeType is Istio's proxy type.
type NodeType string

// Node types.
const (
	NodeSidecar NodeType = "sidecar"
	NodeRouter  NodeType = "router"
	// NodeProxyless is a gRPC client that has no proxy: it calls itself a sidecar, and its
	// metadata says GENERATOR: grpc.
	NodeProxyless NodeType = "grpc"
)

// Node is one proxy as the control plane sees it.
type Node struct {
	ID        string // Istio's form: "sidecar~10.0.0.1~name.namespace~namespace.svc.cluster.local"
	Type      NodeType
	Name      string
	Namespace string
	Labels    map[string]string
	Addresses []netip.Addr
	Locality  string // "region/zone/subzone"; "" when not known
	// DNSCapture: the proxy answers the workload's DNS, so it gets the name table and
	// automatically allocated addresses (Istio's ISTIO_META_DNS_CAPTURE).
	DNSCapture bool
	// OnDemand: a sidecar that asks by name for what it uses (xds.OnDemandMetadata).
	OnDemand bool
	// Unprivileged: the proxy cannot listen on ports below 1024 (Istio's
	// ISTIO_META_UNPRIVILEGED_POD).
	Unprivileged bool
	// SystemCA is the file with the authorities that the proxy's machine trusts; "" where
	// the proxy finds them itself (CertificateValidationContext.system_root_certs, which
	// Envoy does not implement).
	SystemCA string
}

// Protocol of a port, as Istio groups them.
type Protocol string

// Protocols.
const (
	ProtocolHTTP  Protocol = "HTTP" // also HTTP2, GRPC, GRPC-WEB
	ProtocolHTTPS Protocol = "HTTPS"
	ProtocolTLS   Protocol = "TLS"
	ProtocolTCP   Protocol = "TCP" // also MONGO, MYSQL, REDIS and other opaque ones
	ProtocolUDP   Protocol = "UDP" // never captured: ignored with a warning
	// ProtocolAuto is a port without a declared protocol: HTTP where that is what the
	// client speaks, else TCP (Istio's protocol selection).
	ProtocolAuto Protocol = "AUTO"
)

// IsTLS is true for HTTPS and TLS: routed by SNI.
func (p Protocol) IsTLS() bool { return p == ProtocolHTTPS || p == ProtocolTLS }

// MayBeHTTP is true for HTTP, and for ports where it is detected.
func (p Protocol) MayBeHTTP() bool { return p == ProtocolHTTP || p == ProtocolAuto }

// MayBeTCP is true for TCP, and for ports where HTTP is detected, as all else is TCP.
func (p Protocol) MayBeTCP() bool { return p == ProtocolTCP || p == ProtocolAuto }

// Port of a service.
type Port struct {
	Number     uint32
	TargetPort uint32 // 0: the same
	Name       string
	Protocol   Protocol
	Declared   string // as written: "HTTP2", "MONGO", ...
}

// Resolution of a service.
type Resolution string

// Resolutions.
const (
	ResolutionNone          Resolution = "NONE"
	ResolutionStatic        Resolution = "STATIC"
	ResolutionDNS           Resolution = "DNS"
	ResolutionDNSRoundRobin Resolution = "DNS_ROUND_ROBIN"
)

// Registry is where a service comes from.
type Registry string

// Registries. The zero value is that of ServiceEntries.
const (
	RegistryServiceEntry Registry = ""
	RegistryKubernetes   Registry = "Kubernetes"
)

// Service is one host of the registry: from a ServiceEntry (one per host), or
// built in (a Service of Kubernetes, or the egress gateway's).
type Service struct {
	Host      string // lower case; may be "*.suffix" or "*"
	Namespace string
	// Registry says whose rules hold where Kubernetes' and Istio's differ.
	Registry Registry
	// Headless: a Service of Kubernetes without a cluster IP. Clients call its endpoints by
	// their addresses.
	Headless bool
	// ExternalName: clients find it as this other name (a Service of type ExternalName), and
	// it is what that name is in the registry.
	ExternalName string
	// Aliases are the hosts of the Services whose ExternalName is Host. The snapshot fills it in.
	Aliases []string
	// Selector is spec.selector of a Service of Kubernetes, or a ServiceEntry's
	// workloadSelector: the pods whose service it is. Which services a pod has does not wait for
	// the pod to be ready. Empty: its endpoints tell.
	Selector map[string]string
	Source   istioapi.Ref // the object it came from
	// Sources are all objects it came from, Source first.
	Sources    []istioapi.Ref
	Ports      []Port
	Resolution Resolution
	// Addresses as written: single addresses and CIDRs.
	Addresses []netip.Prefix
	// AutoAddresses were allocated by Egret, for services without Addresses.
	AutoAddresses []netip.Addr
	Endpoints     []Endpoint
	Internal      bool // MESH_INTERNAL
	// ClientProtocol: it speaks both versions of HTTP, so each request keeps its own.
	ClientProtocol  bool
	ExportTo        []string
	SubjectAltNames []string

	visible visibility
}

// Endpoint of a service.
type Endpoint struct {
	Address  string // IP, name (with DNS resolutions), or "unix:///path"
	Ports    map[string]uint32
	Labels   map[string]string
	Locality string
	Weight   uint32
	Network  string
	// ServiceAccount of the workload, in Namespace; "" when not known.
	ServiceAccount string
	// MutualTLS: a proxy takes its connections, and TLS of the mesh (its label
	// security.istio.io/tlsMode is "istio"; see TakesMutualTLS).
	MutualTLS bool
	// Namespace of the workload; "" is the service's.
	Namespace string
	// Hostname is a pod's name under a headless Service (pod.spec.hostname), for DNS; "" has none.
	Hostname string
	// Unprivileged: it is a proxy that cannot listen on ports below 1024 (Node.Unprivileged).
	Unprivileged bool
	// Bound: it serves the ports named in Ports only, as endpoints of Kubernetes do.
	Bound bool
}

// tlsModeLabel says on a workload what its proxy takes: "istio", which injection sets, or
// "disabled".
const tlsModeLabel = "security.istio.io/tlsMode"

// TakesTLS reads labels of a workload for Endpoint.MutualTLS.
func TakesTLS(labels map[string]string) bool { return labels[tlsModeLabel] == "istio" }
