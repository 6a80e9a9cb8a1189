// Package resource turns Envoy xDS v3 resources into the proxy's own structs.
// Every reason for a NACK is born here. It is pure: it opens nothing, keeps
// nothing, and after it no protobuf message goes further into the proxy.
//
// It must not import any package of this module but data/match and
// the leaves format and expression.
package resource

import (
	"net/netip"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/expression"
)

// Object names the Istio object a resource was made from, as the control plane
// tells it in filter metadata ("istio"/"config" paths, "services" lists, and our
// control plane's "egret"/"objects" list). A proxy under a foreign control plane
// sees only what that one tells.
type Object struct {
	Kind, Namespace, Name string
}

// String is "Kind namespace/name".
func (o Object) String() string { return o.Kind + " " + o.Namespace + "/" + o.Name }

// Direction is Envoy's traffic_direction.
type Direction uint8

// Directions.
const (
	DirectionUnspecified Direction = iota
	DirectionInbound
	DirectionOutbound
)

// Listener is envoy.config.listener.v3.Listener. Read-only after decoding.
type Listener struct {
	Name    string
	Address netip.AddrPort // 0.0.0.0 and :: mean any address
	// AdditionalAddresses are further addresses with the same filter chains.
	AdditionalAddresses []netip.AddrPort
	BindToPort          bool // false: reached only from a UseOriginalDst listener
	UseOriginalDst      bool
	// OriginalDst: the original destination is restored (original_dst listener
	// filter) without handing the connection to another listener.
	OriginalDst bool
	Direction   Direction
	InspectTLS  bool // tls_inspector
	InspectHTTP bool // http_inspector
	// InspectorsTimeout bounds the sniffing; 0 means no timeout (Envoy's meaning);
	// the proxy still applies a bound of its own.
	InspectorsTimeout time.Duration
	// ContinueOnTimeout: on timeout go on with what is known; else close.
	ContinueOnTimeout  bool
	FilterChains       []*FilterChain
	DefaultFilterChain *FilterChain
	// OnDemand, when not "", is the name under which further filter chains are asked for
	// by server name (fcds_config).
	OnDemand string
	// AccessLogs record connections that match no filter chain.
	AccessLogs []AccessLog
	Objects    []Object
	// Rejected, when not "", says why the resource could not be decoded. Only
	// name and addresses are set; every connection is refused.
	Rejected string

	inspectTLSOff, inspectHTTPOff portSet // filter_disabled
	index                         *chainIndex
	parts                         decodedParts[*FilterChain]
}

// FilterChain is envoy.config.listener.v3.FilterChain: exactly one of HTTP and
// TCP is set.
type FilterChain struct {
	Name  string
	Match FilterChainMatch
	HTTP  *HTTPConnectionManager
	TCP   *TCPProxy
	// ForwardPort is where clusters of type DiscoveryDynamicForward connect to at the
	// TLS server name (sni_dynamic_forward_proxy); 0: they do not.
	ForwardPort uint16
	Objects     []Object
	// TLS, if not nil, is what the client's TLS is ended with; the filters see what is
	// inside of it.
	TLS *DownstreamTLS
	// Unsupported, when not "", says why connections of this chain cannot be
	// served; they are refused.
	Unsupported string

	alone *chainIndex // of a chain that was asked for by server name
}

// FilterChainMatch is envoy.config.listener.v3.FilterChainMatch.
type FilterChainMatch struct {
	DestinationPort      uint16 // 0: any
	PrefixRanges         []netip.Prefix
	SourcePrefixRanges   []netip.Prefix
	SourcePorts          []uint16
	ServerNames          []string // lower case; exact or "*.suffix"
	TransportProtocol    string   // "", "raw_buffer" or "tls"
	ApplicationProtocols []string
}

// HTTPConnectionManager is the http_connection_manager network filter.
type HTTPConnectionManager struct {
	// RouteConfigName names an RDS resource; "" means Inline is set.
	RouteConfigName string
	Inline          *RouteConfiguration
	AccessLogs      []AccessLog
	Codec           Codec
	HTTP2           HTTP2Options
	UpgradeTypes    []string // lower case: "websocket", "connect"
	// UseRemoteAddress: the peer is the client: x-forwarded-for is appended and
	// untrusted x-envoy headers are removed.
	UseRemoteAddress bool
	SkipXFFAppend    bool
	// TrustedHops is how many proxies before this one are trusted, where UseRemoteAddress
	// is set: the client is the last but that many of x-forwarded-for, and of
	// x-forwarded-proto and x-forwarded-port what they say counts.
	TrustedHops uint32
	// ForwardClientCert is what becomes of x-forwarded-client-cert, and
	// ClientCertDetails what is told of a client's certificate in it.
	ForwardClientCert ForwardClientCert
	ClientCertDetails ClientCertDetails
	// Via is appended to the via header of requests and responses; "": nothing.
	Via string
	// AppendForwardedPort sets x-forwarded-port.
	AppendForwardedPort bool
	// ServerName is set as the response's "server" header; "": passed through.
	ServerName         string
	ServerNameIfAbsent bool // only where the upstream gave none
	NormalizePath      bool
	MergeSlashes       bool
	EscapedSlashes     EscapedSlashes
	Proxy100Continue   bool
	// StreamIdleTimeout 0 means none; RequestTimeout 0 means none.
	StreamIdleTimeout         time.Duration
	RequestTimeout            time.Duration
	RequestHeadersTimeout     time.Duration
	IdleTimeout               time.Duration // keep-alive idle; 0 means Envoy's default of 1 h
	MaxRequestHeadersKB       uint32        // 0 means Envoy's default of 60
	GenerateRequestID         bool
	PreserveExternalRequestID bool
	// AlwaysRequestID: the response tells the request's x-request-id
	// (always_set_request_id_in_response).
	AlwaysRequestID bool
	// MaxRequestsPerConn after which a connection is closed; 0: unlimited.
	MaxRequestsPerConn uint32
	// MaxDuration after which a connection takes no new requests; 0: unlimited.
	MaxDuration time.Duration
	// StripPort takes the port off the authority before it is matched and sent on.
	StripPort StripPort
	// SuppressEnvoyHeaders: the router adds no x-envoy headers of its own.
	SuppressEnvoyHeaders bool
	// OnDemand: a virtual host that is not there is asked for where the route
	// configuration has VHDS (the on_demand filter); OnDemandClusters: clusters are, too.
	OnDemand, OnDemandClusters bool
	// Filters are the HTTP filters before the router that act by the route's
	// configuration, in their order.
	Filters []HTTPFilter
	// Fault is what the fault filter does where the route does not say; may be nil.
	Fault *Fault
}

// ForwardClientCert is forward_client_cert_details. Without a certificate of the client
// all but ClientCertAlwaysForward remove the header.
type ForwardClientCert uint8

// Modes, with Envoy's meaning.
const (
	ClientCertSanitize ForwardClientCert = iota
	ClientCertForward                    // as the client sent it
	ClientCertAppend                     // and the client's own certificate
	ClientCertSet                        // the client's own certificate only
	ClientCertAlwaysForward
)

// ClientCertDetails is set_current_client_cert_details: what is told beside the hash.
type ClientCertDetails struct{ Cert, Chain, Subject, URI, DNS bool }

// EscapedSlashes is what becomes of %2F and %5C in a path
// (path_with_escaped_slashes_action), before it is normalised.
type EscapedSlashes uint8

// Actions.
const (
	SlashesKeep EscapedSlashes = iota
	SlashesReject
	SlashesRedirect // to the path with slashes, status 307
	SlashesUnescape
)

// HTTPFilter is one HTTP filter of a connection manager.
type HTTPFilter uint8

// HTTP filters.
const (
	FilterFault HTTPFilter = iota
	FilterCORS
)

// StripPort is the connection manager's strip_port_mode and
// strip_matching_host_port.
type StripPort uint8

// Strip modes. StripMatching takes the port off where it is the listener's own.
const (
	StripNone StripPort = iota
	StripMatching
	StripAny
)

// TCPProxy is the tcp_proxy network filter.
type TCPProxy struct {
	Clusters    []WeightedCluster // one or more
	IdleTimeout time.Duration     // 0 means Envoy's default of 1 h
	MaxDuration time.Duration     // of a connection; 0: unlimited
	HashSource  bool              // hash_policy: the client's address
	// OnDemandClusters: a cluster that is not there is asked for (on_demand).
	OnDemandClusters bool
	AccessLogs       []AccessLog
	// Tunnel, if not nil, has the bytes go through a tunnel that the upstream, an HTTP
	// proxy, is asked for.
	Tunnel *Tunnel
}

// Tunnel is envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig.
type Tunnel struct {
	// Authority of the tunnel's end, HOST:PORT. It may have command operators; then
	// Dynamic is set.
	Authority string
	Dynamic   bool
	// Post asks by POST with the bytes as its body instead of by CONNECT; Path is where.
	Post    bool
	Path    string
	Headers []HeaderAdd
}

// WeightedCluster is one destination with its share.
type WeightedCluster struct {
	Name            string
	Weight          uint32
	RequestHeaders  HeaderEdits
	ResponseHeaders HeaderEdits
	HostRewrite     string // literal; the route's own goes before it, as in Envoy
	// Subset is what this share asks of endpoints, with what the route asks; nil: what
	// the route asks.
	Subset *LabelMatch
}

// BlackHoleCluster and PassthroughCluster are Istio's names for "refuse" and
// "to where the workload wanted".
const (
	BlackHoleCluster   = "BlackHoleCluster"
	PassthroughCluster = "PassthroughCluster"
)

// Discovery is how a cluster finds its endpoints.
type Discovery uint8

// Discovery types, with Envoy's meaning.
const (
	DiscoveryStatic Discovery = iota
	DiscoveryStrictDNS
	DiscoveryLogicalDNS
	DiscoveryEDS
	DiscoveryOriginalDst
	DiscoveryDynamicForward // the host that the request names
)

// Cluster is envoy.config.cluster.v3.Cluster. Read-only after decoding.
type Cluster struct {
	Name           string
	Discovery      Discovery
	EDSServiceName string // the name to ask EDS for
	ConnectTimeout time.Duration
	LB             LBPolicy
	Balancing      Balancing
	// Subsets divides the endpoints by their metadata; nil: not at all.
	Subsets *Subsets
	// Outlier is outlier detection; nil: no endpoint is ejected.
	Outlier *OutlierDetection
	// Endpoints of static and DNS clusters (for DNS: Host is the name to resolve).
	Endpoints *Endpoints
	// DNSRefresh bounds how old an answer may be where the TTL is not respected.
	DNSRefresh    time.Duration
	RespectDNSTTL bool
	// DNSRetry is how long a failed resolution counts; 0 means DNSRefresh's default.
	DNSRetry  time.Duration
	DNSFamily DNSFamily
	// Breakers are the circuit breakers by RoutingPriority; nil: no limits.
	Breakers *[2]Thresholds
	// SourceAddresses to dial from: the first of the host's family, else the first; none: any.
	SourceAddresses []netip.Addr
	// TLS is the transport socket; nil is plain text. Matches are looked at first.
	TLS        *UpstreamTLS
	TLSMatches []TLSMatch
	// ProxyProtocol goes before everything else on a connection.
	ProxyProtocol ProxyProtocol
	Protocol      UpstreamProtocol
	HTTP2         HTTP2Options // where HTTP/2 is spoken
	// UpstreamIdleTimeout of pooled connections; 0 means Envoy's 1 h.
	UpstreamIdleTimeout time.Duration
	MaxConnectionAge    time.Duration // of pooled connections; 0: unlimited
	MaxRequestsPerConn  uint32        // 0: unlimited
	TCPKeepalive        *TCPKeepalive
	autoSNI, autoSAN    bool
	Objects             []Object
}

// TCPKeepalive are the socket options of upstream connections.
type TCPKeepalive struct {
	Probes         uint32
	Time, Interval time.Duration
}

// DNSFamily is which address families a DNS cluster asks for.
type DNSFamily uint8

// DNS families.
const (
	DNSAuto DNSFamily = iota
	DNSV4Only
	DNSV6Only
	DNSV4Preferred
	DNSAll
)

// TLSMatch is one transport_socket_matches entry; an endpoint whose metadata has
// all of Labels uses it. TLS nil is plain text.
type TLSMatch struct {
	Name          string
	Labels        map[string]string
	TLS           *UpstreamTLS
	ProxyProtocol ProxyProtocol
}

// UpstreamTLS is the UpstreamTlsContext.
type UpstreamTLS struct {
	SNI               string
	AutoSNI           bool // from the request's Host (auto_sni)
	AutoHostSNI       bool // from the endpoint's Hostname (auto_host_sni)
	ALPN              []string
	CAFile            string // "" with SystemCA
	SystemCA          bool
	InlineCA          []byte
	CASecret          string // of credentials.Secrets
	CertFile, KeyFile string
	CertSecret        string // of credentials.Secrets
	// Subscribed are those of the secrets that come from the control plane (SDS over ADS).
	Subscribed   []string
	SANs         []match.String
	AutoSANCheck bool // auto_san_validation
	SkipVerify   bool // no validation context: Envoy does not verify
	// Unsupported, when not "", says why this context cannot be used; a connection
	// that needs it fails with upstream_tls_failed and this text.
	Unsupported            string
	MinVersion, MaxVersion uint16   // crypto/tls constants; 0: default
	CipherSuites           []uint16 // of TLS 1.2 and before; nil: Go's own choice
}

// DownstreamTLS is the DownstreamTlsContext of a filter chain.
type DownstreamTLS struct {
	Certificates []Certificate // one or more; the first where no name fits
	ALPN         []string
	// Verify, if not nil, is how a client's certificate is judged where it has one;
	// with RequireClientCertificate it must have one.
	Verify                   *Verification
	RequireClientCertificate bool
	NoSessionTickets         bool   // disable_stateless_session_resumption
	MinVersion, MaxVersion   uint16 // crypto/tls constants; 0: default
	// CipherSuites are those of TLS 1.2 and before; nil: Go's own choice.
	CipherSuites []uint16
	// Subscribed are those of the secrets that come from the control plane (SDS over ADS).
	Subscribed []string
	// HandshakeTimeout is the chain's transport_socket_connect_timeout; 0: none given.
	HandshakeTimeout time.Duration
}

// Certificate is a chain with its key, in PEM: both from files, or both inline; or a
// name of credentials.Secrets.
type Certificate struct {
	CertFile, KeyFile     string
	InlineCert, InlineKey []byte
	Secret                string
}

// Verification is a CertificateValidationContext: at most one source of authorities.
type Verification struct {
	CAFile   string
	SystemCA bool
	InlineCA []byte
	CASecret string         // of credentials.Secrets
	SANs     []match.String // of which one must match; nil: any name
	// Skip: any certificate is taken (no authorities, or ACCEPT_UNTRUSTED).
	Skip bool
}

// Endpoints is envoy.config.endpoint.v3.ClusterLoadAssignment.
type Endpoints struct {
	ClusterName string
	Localities  []Locality
	// Overprovisioning is the factor of a priority's health, in percent; 0 means
	// Envoy's 140.
	Overprovisioning uint32
}

// Locality is a group of endpoints with one priority.
type Locality struct {
	Priority  uint32
	Weight    uint32
	Endpoints []Endpoint
}

// Endpoint is one lb_endpoint. Address is set where Host is an IP literal.
type Endpoint struct {
	Host    string
	Port    uint16
	Address netip.AddrPort
	// Hostname for auto host rewrite.
	Hostname  string
	Weight    uint32
	Unhealthy bool
	TLSLabels map[string]string // "envoy.transport_socket_match" metadata
	// Labels is the "envoy.lb" metadata, for subsets and as hash_key.
	Labels Labels
}

// AccessLog is one file access log.
type AccessLog struct {
	Path string
	// Text is Envoy's format string; JSON is set instead for a JSON format
	// (values are format strings, nested maps, lists or literals).
	Text string
	JSON map[string]any
	// OmitEmpty leaves out empty JSON values.
	OmitEmpty bool
	Filter    *AccessLogFilter // nil: always
}

// AccessLogFilter is envoy.config.accesslog.v3.AccessLogFilter. Exactly one filter is
// set; And and Or nest.
type AccessLogFilter struct {
	ResponseFlags  []string // response_flag_filter; empty list with AnyFlag: any
	AnyFlag        bool
	StatusOp       string // "GE", "EQ", "LE", "NE" for status_code_filter
	StatusValue    uint32
	DurationOp     string
	DurationMS     uint32
	Header         *match.Header
	NotHealthCheck bool
	And, Or        []*AccessLogFilter
	// Expression is the CEL extension filter.
	Expression *expression.Expression
	// GRPC are the gRPC status codes that pass; with GRPCExclude those that do not. nil
	// and LogTypes nil: not this filter.
	GRPC        []int
	GRPCExclude bool
	// LogTypes are Envoy's words for access log types ("DownstreamEnd").
	LogTypes        []string
	LogTypesExclude bool
	// Sampled is the runtime filter: this share passes.
	Sampled *Fraction
	// Nothing passes: a filter on what this proxy never has (a trace, metadata).
	Nothing bool
}

// NameTable is Istio's NDS resource: what the DNS proxy answers. Keys are lower
// case host names without the final dot. A "*.suffix" key is a known wildcard, the
// key "*" says that every name may be looked up outside (ALLOW_ANY).
type NameTable struct {
	Names map[string]NameInfo
}

// NameInfo is the answer for one name. No Addresses: the name is known, and is
// resolved outside when it is dialled.
type NameInfo struct {
	Addresses []netip.Addr
	// Prefixes, without Addresses: the name is looked up outside at once, and the
	// answers within a prefix are good.
	Prefixes  []netip.Prefix
	Registry  string
	Namespace string
}
