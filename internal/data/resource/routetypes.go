package resource

import (
	"regexp"

	"github.com/egret-mesh/egret/internal/data/match"
)

// RouteConfiguration is envoy.config.route.v3.RouteConfiguration. Find virtual
// hosts with its VirtualHost method, which uses an index made when decoding.
type RouteConfiguration struct {
	Name                     string
	VirtualHosts             []*VirtualHost
	IgnorePortInHostMatching bool
	RequestHeaders           HeaderEdits
	ResponseHeaders          HeaderEdits
	// MostSpecificWins: header edits are made from the least to the most specific
	// level, so that the most specific has the last word
	// (most_specific_header_mutations_wins).
	MostSpecificWins bool
	// OnDemand: virtual hosts that are not here are asked for by host (vhds).
	OnDemand bool
	index    domainIndex

	maxDirectBody uint32 // bytes
	parts         decodedParts[*VirtualHost]
}

// VirtualHost is envoy.config.route.v3.VirtualHost.
type VirtualHost struct {
	Name            string
	Domains         []string
	Routes          []*Route
	RequestHeaders  HeaderEdits
	ResponseHeaders HeaderEdits
	// IncludeAttemptCount adds x-envoy-attempt-count to the upstream request.
	IncludeAttemptCount bool
	// IncludeAttemptCountInResponse adds it to the response.
	IncludeAttemptCountInResponse bool
	// TLSRedirect, if not nil, answers every request whose scheme is not https
	// (require_tls).
	TLSRedirect *Route
	Objects     []Object
}

// Route is envoy.config.route.v3.Route: exactly one of Forward, Redirect and
// Direct is set.
type Route struct {
	Name            string
	Match           RouteMatch
	Forward         *Forward
	Redirect        *Redirect
	Direct          *DirectResponse
	RequestHeaders  HeaderEdits
	ResponseHeaders HeaderEdits
	// Fault and CORS are typed_per_filter_config, the virtual host's where the route
	// has none. Without the filter in the connection manager they do nothing.
	Fault   *Fault
	CORS    *CORS
	Objects []Object
}

// PathKind says how RouteMatch.Path is compared.
type PathKind uint8

// Path kinds. PathRegex matches the whole path without the query.
const (
	PathPrefix PathKind = iota
	PathExact
	PathSeparatedPrefix
	PathRegex
	PathConnect // connect_matcher
)

// RouteMatch is envoy.config.route.v3.RouteMatch.
type RouteMatch struct {
	Kind               PathKind
	Path               string
	Regex              *regexp.Regexp
	IgnoreCase         bool
	Headers            []match.Header
	Query              []match.Query
	RuntimeNumerator   uint32 // share of requests; with denominator 0: all
	RuntimeDenominator uint32
	GRPC               bool // only requests with a content-type of gRPC
}

// HeaderEdits is the add and remove lists that Envoy has on routes, virtual
// hosts, route configurations and weighted clusters.
type HeaderEdits struct {
	Add    []HeaderAdd
	Remove []string // lower case
}

// Empty reports whether there is nothing to do.
func (h *HeaderEdits) Empty() bool { return len(h.Add) == 0 && len(h.Remove) == 0 }

// HeaderAdd is one header to set. Value may have Envoy's command operators
// (%REQ(x)%, ...); then Dynamic is set.
type HeaderAdd struct {
	Name, Value string
	Action      HeaderAction
	// Dynamic: Value has command operators.
	Dynamic bool
	// KeepEmpty: the header is set although its value comes out empty
	// (keep_empty_value); else it is left as it is.
	KeepEmpty bool
}

// HeaderAction is Envoy's HeaderAppendAction.
type HeaderAction uint8

// Header actions.
const (
	AppendIfExistsOrAdd HeaderAction = iota
	AddIfAbsent
	OverwriteIfExistsOrAdd
	OverwriteIfExists
)
