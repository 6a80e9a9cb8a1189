package resource

import (
	"regexp"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
)

// Fraction is envoy.type.v3.FractionalPercent: Numerator of Denominator requests.
// With a denominator of 0 it is all of them.
type Fraction struct{ Numerator, Denominator uint32 }

// Hit reports whether a request with this random number is among them.
func (f Fraction) Hit(random uint32) bool {
	return f.Denominator == 0 || random%f.Denominator < f.Numerator
}

// Forward is envoy.config.route.v3.RouteAction.
type Forward struct {
	Clusters []WeightedCluster // one or more
	// Subset is what the route asks of endpoints (metadata_match); nil: nothing. A
	// weighted cluster's own has it too.
	Subset *LabelMatch
	// Priority says which circuit breakers count.
	Priority RoutingPriority
	// NotFoundStatus answers where the cluster does not exist; 0: 503.
	NotFoundStatus int
	// Timeout of the whole response, from the end of the request; 0 means none.
	Timeout     time.Duration
	IdleTimeout time.Duration // 0: the connection manager's
	// GRPC: for gRPC requests their own grpc-timeout takes the place of Timeout.
	GRPC *GRPCTimeout
	// Stream bounds the whole exchange, from the request's head (max_stream_duration).
	Stream StreamDuration
	Retry  *RetryPolicy
	// PrefixRewrite replaces the matched prefix (or exact path).
	PrefixRewrite   string
	RegexRewrite    *RegexRewrite
	HostRewrite     string // literal
	AutoHostRewrite bool   // to the upstream endpoint's host name
	// AppendForwardedHost: the authority that a rewrite replaces is appended to
	// x-forwarded-host.
	AppendForwardedHost bool
	// Upgrades override the connection manager's UpgradeTypes.
	Upgrades []Upgrade
	// HashPolicies make the number by which a hashing balancer chooses.
	HashPolicies []HashPolicy
	// Mirrors get a copy of the request; nobody waits for their answers.
	Mirrors []Mirror
}

// GRPCTimeout is max_grpc_timeout with grpc_timeout_offset.
type GRPCTimeout struct {
	Max    time.Duration // 0: no bound
	Offset time.Duration // taken off the request's own timeout where that is longer
}

// StreamDuration is envoy.config.route.v3.RouteAction.MaxStreamDuration.
type StreamDuration struct {
	Max time.Duration // 0: none
	// GRPC: a gRPC request's own grpc-timeout takes the place of Max.
	GRPC *GRPCTimeout
}

// Upgrade allows or forbids an upgrade on one route.
type Upgrade struct {
	Type    string // lower case
	Enabled bool
}

// RegexRewrite replaces every match of Pattern; the substitution uses Go's template
// syntax, converted from RE2's \1.
type RegexRewrite struct {
	Pattern      *regexp.Regexp
	Substitution string
}

// RetryPolicy is envoy.config.route.v3.RetryPolicy.
type RetryPolicy struct {
	On            []string // Envoy's words: connect-failure, 5xx, reset, ...
	NumRetries    uint32
	PerTryTimeout time.Duration
	StatusCodes   []uint32 // for retriable-status-codes
	// Headers of a response, any of which makes it one to retry (retriable-headers).
	Headers []match.Header
	// RequestHeaders, if any: only requests with one of these are sent again.
	RequestHeaders []match.Header
	AvoidPrevious  bool // previous_hosts predicate
	// LeavePriorities, if not 0: after so many attempts the priorities that they went
	// to are left out (previous_priorities with its update_frequency).
	LeavePriorities int
	HostAttempts    int
	BackOffBase     time.Duration // 0: Envoy's 25 ms
	BackOffMax      time.Duration // 0: ten times the base
	RateLimited     *RateLimitedBackOff
}

// RateLimitedBackOff takes the pause before a retry from a response that says how
// long to wait.
type RateLimitedBackOff struct {
	Headers []ResetHeader
	Max     time.Duration // longer ones are not followed
}

// ResetHeader says when to come again: in so many seconds, or at a Unix time.
type ResetHeader struct {
	Name string // lower case
	Unix bool
}

// HashKind is what a HashPolicy hashes.
type HashKind uint8

// Hash kinds.
const (
	HashHeader HashKind = iota
	HashCookie
	HashSourceIP
	HashQuery
)

// HashPolicy is envoy.config.route.v3.RouteAction.HashPolicy.
type HashPolicy struct {
	Kind HashKind
	Name string // of the header (lower case), cookie or query parameter
	// Rewrite changes a header's value before it is hashed; may be nil.
	Rewrite *RegexRewrite
	// Cookie, if not nil, is made for a client that has none.
	Cookie *NewCookie
	// Terminal: where this policy or one before it gave a number, the rest is not
	// looked at.
	Terminal bool
}

// NewCookie says how a cookie of a HashPolicy is made.
type NewCookie struct {
	TTL  time.Duration // 0: until the client ends its session
	Path string
	// Attributes follow in set-cookie: ready made, each with "; " before it.
	Attributes string
}

// Mirror is envoy.config.route.v3.RouteAction.RequestMirrorPolicy.
type Mirror struct {
	Cluster string
	Share   Fraction
	// KeepHost: "-shadow" is not appended to the authority's host.
	KeepHost bool
}

// Fault is envoy.extensions.filters.http.fault.v3.HTTPFault.
type Fault struct {
	Delay *FaultDelay
	Abort *FaultAbort
	// The fault is for requests with all of these headers, to this cluster ("": any),
	// from one of these nodes (none: any) by x-envoy-downstream-service-node.
	Headers []match.Header
	Cluster string
	Nodes   []string
	// MaxActive faults at a time; more requests than that go without. nil: no limit.
	MaxActive *uint32
}

// FaultDelay holds requests back.
type FaultDelay struct {
	Duration time.Duration
	Share    Fraction
}

// FaultAbort answers requests: with an HTTP status, or where that is 0 with a gRPC
// status.
type FaultAbort struct {
	HTTPStatus int
	GRPCStatus uint32
	Share      Fraction
}

// CORS is envoy.extensions.filters.http.cors.v3.CorsPolicy.
type CORS struct {
	Origins []match.String
	// Values of the response headers; "": not sent. "*" for methods and headers says
	// what the request asked for.
	AllowMethods, AllowHeaders, ExposeHeaders, MaxAge string
	AllowCredentials, AllowPrivateNetwork             bool
	// ForwardUnmatched: a preflight request of an origin that is not allowed goes to
	// the upstream; else it is answered without permission.
	ForwardUnmatched bool
	Enabled          Fraction
}

// Redirect is envoy.config.route.v3.RedirectAction.
type Redirect struct {
	Scheme, Host  string
	HTTPSRedirect bool
	Port          uint32
	Path          string // path_redirect
	PrefixRewrite string
	RegexRewrite  *RegexRewrite
	Status        int // 301, 302, 303, 307, 308
	StripQuery    bool
}

// DirectResponse is envoy.config.route.v3.DirectResponseAction.
type DirectResponse struct {
	Status int
	Body   []byte
}
