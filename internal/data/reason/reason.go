// Package reason is the closed list of words that say why a connection or
// request was allowed, denied or failed. The access log, the metric label, the
// body and header of a 502, and "egret explain" all print the same word.
//
// It must not import any other package of this module.
package reason

// Reason is one word of the list. The zero value means "nothing to tell": the
// connection or request was forwarded.
type Reason string

// Denials: policy (the configuration) or strictness (the proxy) refused.
const (
	// NotInRegistry: REGISTRY_ONLY, and no ServiceEntry names the host.
	NotInRegistry Reason = "not_in_registry"
	// PortNotInRegistry: the host is registered, the port is not.
	PortNotInRegistry Reason = "port_not_in_registry"
	// AddressNotInRegistry: the connection went to a literal address that no
	// ServiceEntry lists.
	AddressNotInRegistry Reason = "address_not_in_registry"
	// NoRoute: the host is known but no route of it matches the request.
	NoRoute Reason = "no_route"
	// NoFilterChain: a listener has the connection but no filter chain matches.
	NoFilterChain Reason = "no_filter_chain"
	// HostMismatch: the Host header or request target names another host than
	// the one the connection was opened to.
	HostMismatch Reason = "host_mismatch"
	// SNIMismatch: the TLS SNI names another host than the one the connection
	// was opened to.
	SNIMismatch Reason = "sni_mismatch"
	// SNIMissing: TLS without a server name where the name decides.
	SNIMissing Reason = "sni_missing"
	// ConnectNotAllowed: the CONNECT method, where no route allows it.
	ConnectNotAllowed Reason = "connect_not_allowed"
	// UpgradeNotAllowed: an Upgrade that the configuration does not allow.
	UpgradeNotAllowed Reason = "upgrade_not_allowed"
	// AddressForbidden: the name resolved to an address (loopback, link-local,
	// multicast, unspecified) that only an explicit address in a ServiceEntry may reach.
	AddressForbidden Reason = "address_forbidden"
	// PolicyChanged: the connection was allowed when it began and no longer is.
	PolicyChanged Reason = "policy_changed"
	// DNSNotInRegistry: the name was not looked up outside.
	DNSNotInRegistry Reason = "dns_not_in_registry"
	// DNSTypeRefused: a DNS query whose type or class is not answered.
	DNSTypeRefused Reason = "dns_type_refused"
	// ProtocolNotCaptured: a packet that is neither TCP nor DNS (UDP, ICMP, ...).
	ProtocolNotCaptured Reason = "protocol_not_captured"
	// ConfigRejected: the configuration for this destination was refused by the
	// proxy (a NACK) and no earlier version of it was good.
	ConfigRejected Reason = "config_rejected"
	// ConfigNotAvailable: the configuration for this destination is asked for on demand,
	// and the control plane could not be asked or did not answer in time.
	ConfigNotAvailable Reason = "config_not_available"
	// SelfCall: the connection was addressed to the proxy's own port.
	SelfCall Reason = "self_call"
)

// Refusals of what the downstream sent.
const (
	// BadRequest: not acceptable as HTTP; the entry's detail names the rule.
	BadRequest Reason = "bad_request"
	// HeadersTooLarge: the header section is over the limit.
	HeadersTooLarge Reason = "headers_too_large"
	// DownstreamTimeout: the client was too slow (headers, body, idle).
	DownstreamTimeout Reason = "downstream_timeout"
	// DownstreamTLSFailed: TLS with the client could not be set up: its certificate,
	// version or bytes were not acceptable, it was too slow, or the proxy has no
	// certificate.
	DownstreamTLSFailed Reason = "downstream_tls_failed"
	// TooManyConnections: over a connection limit.
	TooManyConnections Reason = "too_many_connections"
)

// Failures: the way was allowed but did not work.
const (
	// NoCluster: the route names a cluster that does not exist (yet).
	NoCluster Reason = "no_cluster"
	// NoHealthyUpstream: the cluster has no usable endpoint.
	NoHealthyUpstream Reason = "no_healthy_upstream"
	// DNSFailed: the upstream's name could not be resolved.
	DNSFailed Reason = "dns_failed"
	// UpstreamConnectFailed: refused, unreachable or timed out while connecting.
	UpstreamConnectFailed Reason = "upstream_connect_failed"
	// UpstreamTLSFailed: the TLS handshake or the certificate was not accepted.
	UpstreamTLSFailed Reason = "upstream_tls_failed"
	// UpstreamReset: the upstream closed before a complete response.
	UpstreamReset Reason = "upstream_reset"
	// UpstreamProtocolError: the upstream's response is not acceptable as HTTP.
	UpstreamProtocolError Reason = "upstream_protocol_error"
	// UpstreamTimeout: the route's timeout passed.
	UpstreamTimeout Reason = "upstream_timeout"
	// UpstreamOverflow: a circuit breaker's limit is reached.
	UpstreamOverflow Reason = "upstream_overflow"
	// FaultInjected: the configuration asks for this failure (fault injection).
	FaultInjected Reason = "fault_injected"
	// DownstreamClosed: the client went away first.
	DownstreamClosed Reason = "downstream_closed"
	// Draining: the proxy is shutting down.
	Draining Reason = "draining"
	// NotSupported: the configuration asks for something this proxy does not do.
	NotSupported Reason = "not_supported"
)

var denials = map[Reason]bool{
	NotInRegistry: true, PortNotInRegistry: true, AddressNotInRegistry: true,
	NoRoute: true, NoFilterChain: true, HostMismatch: true, SNIMismatch: true,
	SNIMissing: true, ConnectNotAllowed: true, UpgradeNotAllowed: true,
	AddressForbidden: true, PolicyChanged: true, DNSNotInRegistry: true,
	DNSTypeRefused: true, ProtocolNotCaptured: true, SelfCall: true,
	ConfigRejected: true, ConfigNotAvailable: true, NotSupported: true,
	BadRequest: true, HeadersTooLarge: true,
	TooManyConnections: true, DownstreamTLSFailed: true,
}

// Denied reports whether r is a refusal (by policy or by strictness), as
// opposed to a failure on an allowed way. Denials are recorded whatever the
// access log settings are.
func (r Reason) Denied() bool { return denials[r] }
