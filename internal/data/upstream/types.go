// Package upstream is everything behind the decision: clusters at run time, their
// endpoints, name resolution, balancing, connecting. It is handed a cluster and
// never asks why. (The pools of idle HTTP/1 connections are in data/http.)
//
// It must not decide what a workload may reach, with one exception: an address that
// nobody wrote down is refused when it is loopback, link-local or the like.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Dialer opens connections. It is the seam between ways to deploy: standalone
// hands the gateway's address to an in-process listener, Kubernetes marks sockets.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// SourceDialer is a Dialer that can dial from an address, for clusters that have one
// (upstream_bind_config).
type SourceDialer interface {
	DialFrom(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error)
}

// Resolver looks up names outside. The address judged is the address dialled, so
// nothing else in the proxy resolves names.
type Resolver interface {
	// Lookup returns the addresses and how long they may be used. A name that does
	// not exist is an error.
	Lookup(ctx context.Context, name string, family Family) ([]netip.Addr, TTL, error)
}

// ErrNoSuchName and ErrNoAddress are what a Resolver's error wraps when DNS did
// answer: the name does not exist, or has no address of the family. Any other error
// means that DNS did not work, and an older answer may be used instead.
var (
	ErrNoSuchName = errors.New("no such name")
	ErrNoAddress  = errors.New("no address for the name")
)

// Family is which address family to ask for.
type Family uint8

// Families.
const (
	FamilyAny Family = iota
	FamilyV4
	FamilyV6
)

// TTL is how long an answer may be used.
type TTL = time.Duration

// Target is what the connection or request wanted; a cluster of type ORIGINAL_DST
// dials it, and some policies hash it.
type Target struct {
	// Destination is the original destination.
	Destination netip.AddrPort
	// Name is set where Destination is an address that the DNS proxy handed out for
	// a name without a fixed address: then the name is resolved and dialled.
	Name string
	// Authority is the request's host for auto_sni and auto_san_validation.
	Authority string
	// ForwardPort is the port at Authority for clusters that connect to it (dynamic
	// forward proxy); 0: there is none.
	ForwardPort uint16
	// Source and Local are the addresses of the downstream's connection: the client's,
	// and the one that it connected to. The PROXY protocol tells of them.
	Source, Local netip.AddrPort
	// Hash is what the route's hash_policy made of the request, for ring_hash and
	// maglev; without HasHash they choose by chance, as Envoy does.
	Hash    uint64
	HasHash bool
	// Subset is what the route asks of the endpoints; nil: nothing.
	Subset *resource.LabelMatch
	// ALPN are the HTTP versions that the request can be spoken in ("h2", "http/1.1"):
	// others are not offered in TLS. nil: what the configuration has is offered as it is.
	ALPN []string
	// Leave are hosts whose priorities a retry leaves, where there is another one
	// (previous_priorities).
	Leave []*Host
	// Priority says which circuit breakers count.
	Priority resource.RoutingPriority
}

// priority of a target, which may be nil.
func (t *Target) priority() resource.RoutingPriority {
	if t == nil {
		return resource.PriorityDefault
	}
	return t.Priority
}

// Error is a failure to reach a cluster, with its reason and Envoy's response flag.
type Error struct {
	Reason reason.Reason
	Flag   string // "UH", "UF", "UO", "NC", "DF"
	Detail string
	Err    error
	// Host is the endpoint that was tried, if any.
	Host string
}

// Error is Detail with the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Detail
	}
	return e.Detail + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// RefusedTLS reports whether err, of reading from a host or writing to it, is that the host
// ended the connection by a TLS alert. With TLS 1.3 a server that does not take the
// certificate that it is shown, or wants one, says so only after the client's handshake
// (RFC 8446 section 4.4.2.4), so that it is seen in the place of the first bytes.
func RefusedTLS(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // crypto/tls has it so
}

// Refusal is err of writing to a host, or the TLS alert by which the host had closed the
// connection before, where that is what the host said last. It does not wait: there is
// nothing to come on a connection that was reset.
func Refusal(conn net.Conn, err error) error {
	if _, ok := conn.(*tls.Conn); !ok || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	if _, said := conn.Read(make([]byte, 1)); RefusedTLS(said) {
		return said
	}
	return err
}
