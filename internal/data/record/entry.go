// Package record is the one place where a finished connection or request is told:
// access log lines in Envoy's formats, metrics with Istio's names, and denials to
// whoever subscribed. It decides nothing.
package record

import (
	"net/netip"
	"time"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Protocol of an entry, as %PROTOCOL% prints it.
type Protocol string

// Protocols. A TCP entry prints "-".
const (
	ProtocolTCP    Protocol = ""
	ProtocolHTTP10 Protocol = "HTTP/1.0"
	ProtocolHTTP11 Protocol = "HTTP/1.1"
	ProtocolHTTP2  Protocol = "HTTP/2"
	ProtocolDNS    Protocol = "DNS"
	ProtocolPacket Protocol = "PACKET" // refused by the packet filter
)

func (p Protocol) isHTTP() bool {
	return p == ProtocolHTTP11 || p == ProtocolHTTP2 || p == ProtocolHTTP10
}

// LogType is Envoy's ACCESS_LOG_TYPE.
type LogType string

// Log types. Others, of the beginning or the middle of a connection, are not recorded.
const (
	LogTCPEnd        LogType = "TcpConnectionEnd"
	LogDownstreamEnd LogType = "DownstreamEnd"
)

// logType: a record is made at the end, by the HTTP connection manager or the TCP proxy.
func (e *Entry) logType() LogType {
	switch {
	case e.Protocol == ProtocolTCP:
		return LogTCPEnd
	case e.Protocol.isHTTP():
		return LogDownstreamEnd
	}
	return ""
}

// Headers gives header values for %REQ()% and %RESP()%, by lower-case name.
type Headers interface {
	Get(name string) (string, bool)
}

// Entry is one finished request or connection. The recorder does not keep it, nor
// its strings, after Record returns; so one Entry may be reused per connection.
type Entry struct {
	Start    time.Time
	Duration time.Duration
	// Times to points in the life of the request, since Start; 0: not reached.
	RequestDone, RequestSent, FirstUpstreamByte, ResponseDone time.Duration
	// Times to points in the life of the upstream connection, since Start; 0: not
	// reached, or before Start (a connection that was used before).
	UpstreamConnectBegin, UpstreamConnected, UpstreamReady time.Duration
	// ConnectionStart is when the client's connection was accepted, for requests.
	ConnectionStart time.Time
	// DownstreamHandshake is the time from there to the end of the TLS handshake.
	DownstreamHandshake time.Duration

	Protocol Protocol
	// Inbound: the call came to the proxy's own workload; Istio's reporter "destination".
	Inbound bool
	// HTTP only.
	Method, Path, Authority         string
	RequestHeaders, ResponseHeaders Headers // may be nil
	ResponseTrailers                Headers // may be nil
	Status                          int     // 0: none

	Reason reason.Reason
	// Detail is the sentence that goes with Reason (also the body of a 502).
	Detail string
	// Flags are Envoy's response flags ("UH", "UF", "NR", "DC", ...); nil prints "-".
	Flags []string
	// ResponseCodeDetails as in Envoy ("via_upstream", "direct_response", ...). Where
	// Reason is a denial the recorder prints "egret:REASON" for this instead when empty.
	ResponseCodeDetails          string
	ConnectionTerminationDetails string
	UpstreamTransportFailure     string

	// Messages of a gRPC call from and to the client.
	RequestMessages, ResponseMessages uint64

	BytesReceived, BytesSent int64 // body bytes for HTTP, all bytes for TCP

	UpstreamHost     string // "ip:port"
	UpstreamHostName string // the endpoint's host name; "": it has none
	UpstreamProtocol Protocol
	// UpstreamObjects are those that the cluster was made from.
	UpstreamObjects      []resource.Object
	UpstreamCluster      string
	UpstreamLocalAddress netip.AddrPort
	UpstreamServiceTime  time.Duration

	DownstreamLocal, DownstreamRemote netip.AddrPort
	// Client is who trusted proxies say the client is; not valid: DownstreamRemote.
	Client netip.Addr
	// DownstreamDirectLocal is where the connection arrived; not valid: DownstreamLocal.
	DownstreamDirectLocal      netip.AddrPort
	DownstreamTransportFailure string
	SNI                        string // %REQUESTED_SERVER_NAME%
	RouteName, FilterChain     string
	// LocalReplyBody is the body of a response that the proxy made.
	LocalReplyBody string
	// ConnectionID counts the connections of the process; 0: unknown.
	ConnectionID uint64
	// TLS sessions; nil: plain text, or not ended here.
	DownstreamTLS, UpstreamTLS *credentials.Session
	Attempts                   uint32

	// Host is the destination's name for metrics and denials: authority without
	// port, SNI, the DNS proxy's name for the address, or the address itself.
	Host string
	// Opened: Recorder.Opened has counted this TCP connection already.
	Opened bool
	// Objects that led to the verdict.
	Objects []resource.Object
}
