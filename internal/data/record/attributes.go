package record

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/expression"
)

// attributes is an Entry as expressions see it: Envoy's attributes by name.
type attributes Entry

// Header is one of request.headers, response.headers and response.trailers.
func (a *attributes) Header(of, name string) (string, bool) {
	e := (*Entry)(a)
	var h Headers
	switch of {
	case "request.headers":
		return headerText(e, name)
	case "response.headers":
		h = e.ResponseHeaders
	case "response.trailers":
		h = e.ResponseTrailers
	}
	if h == nil {
		return "", false
	}
	return h.Get(name)
}

// Attribute is one of expression.Known. Those of HTTP are missing for a TCP connection.
func (a *attributes) Attribute(name string) expression.Value {
	e := (*Entry)(a)
	group, rest, _ := strings.Cut(name, ".")
	switch group {
	case "request":
		return requestAttribute(e, rest)
	case "response":
		return responseAttribute(e, rest)
	case "connection":
		return connectionAttribute(e, rest)
	case "upstream":
		return upstreamAttribute(e, rest)
	case "source":
		return addressAttribute(downstreamRemote.of(e), rest)
	case "destination":
		return addressAttribute(e.DownstreamLocal, rest)
	}
	switch name {
	case "xds.cluster_name":
		return some(e.UpstreamCluster)
	case "xds.route_name":
		return some(e.RouteName)
	case "xds.filter_chain_name":
		return some(e.FilterChain)
	}
	return expression.Missing()
}

// some is a string that is missing where it is empty.
func some(s string) expression.Value {
	if s == "" {
		return expression.Missing()
	}
	return expression.OfString(s)
}

func addressAttribute(a netip.AddrPort, name string) expression.Value {
	if !a.IsValid() {
		return expression.Missing()
	}
	if name == "port" {
		return expression.OfInt(int64(a.Port()))
	}
	return expression.OfString(a.String())
}

func requestAttribute(e *Entry, name string) expression.Value {
	if !e.Protocol.isHTTP() {
		return expression.Missing()
	}
	header := func(name string) expression.Value { return some(get(e.RequestHeaders, name)) }
	switch name {
	case "path":
		return some(e.Path)
	case "url_path":
		path, _, _ := strings.Cut(e.Path, "?")
		return some(path)
	case "query":
		_, query, _ := strings.Cut(e.Path, "?")
		return expression.OfString(query)
	case "host":
		return some(e.Authority)
	case "method":
		return some(e.Method)
	case "scheme":
		return header("x-forwarded-proto") // what the proxy itself says the scheme is
	case "referer":
		return header("referer")
	case "useragent":
		return header("user-agent")
	case "id":
		return header("x-request-id")
	case "protocol":
		return some(string(e.Protocol))
	case "duration":
		return expression.OfDuration(int64(e.Duration))
	case "size":
		return expression.OfInt(e.BytesReceived)
	}
	return expression.Missing()
}

func responseAttribute(e *Entry, name string) expression.Value {
	switch name {
	case "flags":
		return expression.OfInt(flagBits(e.Flags))
	case "code_details":
		v := details(e)
		if v.kind == kindDenial {
			return expression.OfString("egret:" + v.s)
		}
		return some(v.s)
	}
	if !e.Protocol.isHTTP() {
		return expression.Missing()
	}
	switch name {
	case "code":
		if e.Status == 0 {
			return expression.Missing()
		}
		return expression.OfInt(int64(e.Status))
	case "grpc_status":
		if n, ok := grpcStatus(e); ok {
			return expression.OfInt(int64(n))
		}
	case "size":
		return expression.OfInt(e.BytesSent)
	case "backend_latency":
		if e.UpstreamServiceTime > 0 {
			return expression.OfDuration(int64(e.UpstreamServiceTime / time.Millisecond * time.Millisecond))
		}
	}
	return expression.Missing()
}

func connectionAttribute(e *Entry, name string) expression.Value {
	c := e.DownstreamTLS.Peer()
	switch name {
	case "id":
		return expression.OfInt(int64(e.ConnectionID))
	case "mtls":
		return expression.OfBool(c != nil)
	case "requested_server_name":
		return some(e.SNI)
	case "termination_details":
		return some(e.ConnectionTerminationDetails)
	case "transport_failure_reason":
		return some(e.DownstreamTransportFailure)
	case "tls_version":
		if e.DownstreamTLS != nil {
			return some(versions[e.DownstreamTLS.Version])
		}
	}
	if c == nil {
		return expression.Missing()
	}
	switch name {
	case "subject_peer_certificate":
		return some(c.Subject.String())
	case "sha256_peer_certificate_digest":
		return some(sha256Print(c))
	case "dns_san_peer_certificate":
		if len(c.DNSNames) > 0 {
			return some(c.DNSNames[0])
		}
	case "uri_san_peer_certificate":
		return some(e.DownstreamTLS.PeerPrincipal())
	}
	return expression.Missing()
}

func upstreamAttribute(e *Entry, name string) expression.Value {
	switch name {
	case "address":
		return some(e.UpstreamHost)
	case "port":
		_, p := splitPort(e.UpstreamHost)
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			return expression.OfInt(int64(n))
		}
	case "local_address":
		return addressAttribute(e.UpstreamLocalAddress, "address")
	case "tls_version":
		if e.UpstreamTLS != nil {
			return some(versions[e.UpstreamTLS.Version])
		}
	case "transport_failure_reason":
		return some(e.UpstreamTransportFailure)
	case "request_attempt_count":
		return expression.OfInt(int64(e.Attempts))
	}
	return expression.Missing()
}
