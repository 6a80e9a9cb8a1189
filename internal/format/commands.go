package format

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Use says what Egret does with a command.
type Use uint8

// Uses.
const (
	Prints  Use = iota // it has its value where Envoy has one
	Empty              // known, and always "-" (null in JSON); Note says why
	Refused            // a format with it is refused; Note says why
)

// Command is one of Envoy's command operators, or one of Egret's own.
type Command struct {
	Name  string
	Use   Use
	Note  string
	check func(args string) error // nil: any
}

// Lookup finds a command by any of its names.
func Lookup(name string) (Command, bool) {
	if first, ok := aliases[name]; ok {
		name = first
	}
	i, ok := slices.BinarySearchFunc(commands, name, func(c Command, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return Command{}, false
	}
	return commands[i], true
}

// Commands are all commands by name. It is a copy.
func Commands() []Command { return slices.Clone(commands) }

// Aliases gives the first name for each other name of a command. It is a copy.
func Aliases() map[string]string {
	out := make(map[string]string, len(aliases))
	for k, v := range aliases {
		out[k] = v
	}
	return out
}

// aliases are read-only.
var aliases = map[string]string{
	"REQUEST_HEADER":   "REQ",
	"RESPONSE_HEADER":  "RESP",
	"RESPONSE_TRAILER": "TRAILER",
}

// Why commands are empty.
const (
	noMetadata    = "of metadata the proxy keeps only the Istio objects that a resource was made from"
	noFilterState = "there are no filters that keep state"
	noQUIC        = "HTTP/3 is not served"
	notCounted    = "bytes are counted as bodies, not on the wire"
	noInternal    = "there are no internal listeners"
	notKept       = "not kept by the proxy"
	noChain       = "the chain by which a certificate was verified is not kept"
	noTracing     = "the proxy makes no trace spans"
)

// commands are sorted by name, and read-only. The names are those of Envoy 1.40,
// docs/root/configuration/advanced/substitution_formatter.rst.
var commands = sorted([]Command{
	// Time.
	{Name: "START_TIME"}, {Name: "START_TIME_LOCAL"}, {Name: "EMIT_TIME"}, {Name: "EMIT_TIME_LOCAL"},
	{Name: "DURATION"}, {Name: "REQUEST_DURATION"}, {Name: "REQUEST_TX_DURATION"}, {Name: "RESPONSE_DURATION"},
	{Name: "RESPONSE_TX_DURATION"}, {Name: "COMMON_DURATION", check: checkCommonDuration},
	{Name: "DOWNSTREAM_HANDSHAKE_DURATION"},
	{Name: "UPSTREAM_CONNECTION_POOL_READY_DURATION"},
	{Name: "ROUNDTRIP_DURATION", Use: Empty, Note: noQUIC},
	// Request and response.
	{Name: "REQ", check: checkHeader}, {Name: "RESP", check: checkHeader}, {Name: "TRAILER", check: checkHeader},
	{Name: "REQ_WITHOUT_QUERY", check: checkHeader},
	{Name: "PATH", check: checkPath}, {Name: "QUERY_PARAM", check: checkNotEmpty},
	{Name: "QUERY_PARAMS", check: oneOf("", "ORIG", "DECODED")},
	{Name: "PROTOCOL"}, {Name: "RESPONSE_CODE"}, {Name: "RESPONSE_CODE_DETAILS", check: oneOf("", "ALLOW_WHITESPACES")},
	{Name: "RESPONSE_FLAGS"}, {Name: "RESPONSE_FLAGS_LONG"}, {Name: "CONNECTION_TERMINATION_DETAILS"},
	{Name: "GRPC_STATUS", check: oneOf("", "CAMEL_STRING", "SNAKE_STRING", "NUMBER")}, {Name: "GRPC_STATUS_NUMBER"},
	{Name: "LOCAL_REPLY_BODY"}, {Name: "ROUTE_NAME"},
	{Name: "BYTES_RECEIVED"}, {Name: "BYTES_SENT"},
	{Name: "VIRTUAL_CLUSTER_NAME", Use: Empty, Note: "virtual clusters, which are statistics of Envoy's, are left out"},
	{Name: "CUSTOM_FLAGS", Use: Empty, Note: "there are no filters that set them"},
	{Name: "BYTES_RETRANSMITTED", Use: Empty, Note: noQUIC}, {Name: "PACKETS_RETRANSMITTED", Use: Empty, Note: noQUIC},
	{Name: "REQUEST_HEADERS_BYTES", Use: Empty, Note: notCounted}, {Name: "RESPONSE_HEADERS_BYTES", Use: Empty, Note: notCounted},
	{Name: "RESPONSE_TRAILERS_BYTES", Use: Empty, Note: notCounted},
	{Name: "UPSTREAM_WIRE_BYTES_SENT", Note: "of TCP connections; for HTTP \"-\": " + notCounted},
	{Name: "UPSTREAM_WIRE_BYTES_RECEIVED", Note: "of TCP connections; for HTTP \"-\": " + notCounted},
	{Name: "DOWNSTREAM_WIRE_BYTES_SENT", Note: "of TCP connections; for HTTP \"-\": " + notCounted},
	{Name: "DOWNSTREAM_WIRE_BYTES_RECEIVED", Note: "of TCP connections; for HTTP \"-\": " + notCounted},
	{Name: "UPSTREAM_HEADER_BYTES_SENT", Use: Empty, Note: notCounted}, {Name: "UPSTREAM_HEADER_BYTES_RECEIVED", Use: Empty, Note: notCounted},
	{Name: "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", Use: Empty, Note: notCounted},
	{Name: "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", Use: Empty, Note: notCounted},
	{Name: "DOWNSTREAM_HEADER_BYTES_SENT", Use: Empty, Note: notCounted}, {Name: "DOWNSTREAM_HEADER_BYTES_RECEIVED", Use: Empty, Note: notCounted},
	{Name: "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", Use: Empty, Note: notCounted},
	{Name: "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", Use: Empty, Note: notCounted},
	// Upstream.
	{Name: "UPSTREAM_PROTOCOL"}, {Name: "UPSTREAM_REQUEST_ATTEMPT_COUNT"},
	{Name: "UPSTREAM_HOST"}, {Name: "UPSTREAM_HOST_NAME"}, {Name: "UPSTREAM_HOST_NAME_WITHOUT_PORT"},
	{Name: "UPSTREAM_HOSTS_ATTEMPTED", Note: onlyFirst}, {Name: "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", Note: onlyFirst},
	{Name: "UPSTREAM_HOST_NAMES_ATTEMPTED", Note: onlyFirst}, {Name: "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", Note: onlyFirst},
	{Name: "UPSTREAM_CLUSTER"}, {Name: "UPSTREAM_CLUSTER_RAW"},
	{Name: "UPSTREAM_LOCAL_ADDRESS"}, {Name: "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "UPSTREAM_LOCAL_PORT"},
	{Name: "UPSTREAM_REMOTE_ADDRESS"}, {Name: "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "UPSTREAM_REMOTE_PORT"},
	{Name: "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", Use: Empty, Note: noInternal},
	{Name: "UPSTREAM_TRANSPORT_FAILURE_REASON"},
	{Name: "UPSTREAM_DETECTED_CLOSE_TYPE", Use: Empty, Note: notKept}, {Name: "UPSTREAM_LOCAL_CLOSE_REASON", Use: Empty, Note: notKept},
	{Name: "UPSTREAM_CONNECTION_ID", Use: Empty, Note: notKept}, {Name: "UPSTREAM_CONNECTION_IDS_ATTEMPTED", Use: Empty, Note: notKept},
	{Name: "UPSTREAM_TLS_VERSION"}, {Name: "UPSTREAM_TLS_CIPHER"},
	{Name: "UPSTREAM_TLS_SESSION_ID", Use: Empty, Note: "TLS sessions have no identifier here"},
	{Name: "UPSTREAM_PEER_SUBJECT"}, {Name: "UPSTREAM_PEER_ISSUER"}, {Name: "UPSTREAM_PEER_CERT"},
	{Name: "UPSTREAM_PEER_CERT_V_START"}, {Name: "UPSTREAM_PEER_CERT_V_END"},
	{Name: "UPSTREAM_PEER_URI_SAN"}, {Name: "UPSTREAM_PEER_DNS_SAN"}, {Name: "UPSTREAM_PEER_IP_SAN"},
	{Name: "UPSTREAM_LOCAL_URI_SAN"}, {Name: "UPSTREAM_LOCAL_DNS_SAN"},
	{Name: "UPSTREAM_LOCAL_IP_SAN"},
	// Downstream.
	{Name: "DOWNSTREAM_REMOTE_ADDRESS"}, {Name: "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "DOWNSTREAM_REMOTE_PORT"},
	{Name: "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"}, {Name: "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "DOWNSTREAM_DIRECT_REMOTE_PORT"},
	{Name: "DOWNSTREAM_LOCAL_ADDRESS"}, {Name: "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "DOWNSTREAM_LOCAL_PORT"},
	{Name: "DOWNSTREAM_DIRECT_LOCAL_ADDRESS"}, {Name: "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", check: checkMask}, {Name: "DOWNSTREAM_DIRECT_LOCAL_PORT"},
	{Name: "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", Use: Empty, Note: noInternal},
	{Name: "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", Use: Empty, Note: noInternal},
	{Name: "DOWNSTREAM_TRANSPORT_FAILURE_REASON"},
	{Name: "DOWNSTREAM_DETECTED_CLOSE_TYPE", Use: Empty, Note: notKept}, {Name: "DOWNSTREAM_LOCAL_CLOSE_REASON", Use: Empty, Note: notKept},
	{Name: "REQUESTED_SERVER_NAME", check: checkServerName},
	{Name: "DOWNSTREAM_TLS_VERSION"}, {Name: "DOWNSTREAM_TLS_CIPHER"},
	{Name: "DOWNSTREAM_TLS_SESSION_ID", Use: Empty, Note: "TLS sessions have no identifier here"},
	{Name: "DOWNSTREAM_PEER_SUBJECT"}, {Name: "DOWNSTREAM_PEER_ISSUER"}, {Name: "DOWNSTREAM_PEER_CERT"},
	{Name: "DOWNSTREAM_PEER_CERT_V_START"}, {Name: "DOWNSTREAM_PEER_CERT_V_END"},
	{Name: "DOWNSTREAM_PEER_URI_SAN"}, {Name: "DOWNSTREAM_PEER_DNS_SAN"}, {Name: "DOWNSTREAM_PEER_IP_SAN"}, {Name: "DOWNSTREAM_PEER_EMAIL_SAN"},
	{Name: "DOWNSTREAM_PEER_FINGERPRINT_256"}, {Name: "DOWNSTREAM_PEER_FINGERPRINT_1"}, {Name: "DOWNSTREAM_PEER_SERIAL"},
	{Name: "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256"}, {Name: "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1"}, {Name: "DOWNSTREAM_PEER_CHAIN_SERIALS"},
	{Name: "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", Use: Empty, Note: noChain}, {Name: "DOWNSTREAM_PEER_ISSUER_SERIAL", Use: Empty, Note: noChain},
	{Name: "DOWNSTREAM_PEER_OTHERNAME_SAN", Use: Empty, Note: notKept}, {Name: "DOWNSTREAM_LOCAL_OTHERNAME_SAN", Use: Empty, Note: notKept},
	{Name: "DOWNSTREAM_LOCAL_SUBJECT"}, {Name: "DOWNSTREAM_LOCAL_URI_SAN"},
	{Name: "DOWNSTREAM_LOCAL_DNS_SAN"}, {Name: "DOWNSTREAM_LOCAL_IP_SAN"},
	{Name: "DOWNSTREAM_LOCAL_EMAIL_SAN"},
	{Name: "TLS_JA3_FINGERPRINT", Use: Empty, Note: "client fingerprints are not computed"},
	{Name: "TLS_JA4_FINGERPRINT", Use: Empty, Note: "client fingerprints are not computed"},
	// Identity and surroundings.
	{Name: "CONNECTION_ID"}, {Name: "STREAM_ID"}, {Name: "UNIQUE_ID"}, {Name: "HOSTNAME"}, {Name: "FILTER_CHAIN_NAME"},
	{Name: "ACCESS_LOG_TYPE"}, {Name: "ENVIRONMENT", check: checkNotEmpty},
	{Name: "TRACE_ID", Use: Empty, Note: noTracing}, {Name: "SPAN_ID", Use: Empty, Note: noTracing},
	{Name: "DYNAMIC_METADATA", Use: Empty, Note: noMetadata}, {Name: "CLUSTER_METADATA", Use: Empty, Note: noMetadata},
	{Name: "UPSTREAM_METADATA", Use: Empty, Note: noMetadata}, {Name: "METADATA", Use: Empty, Note: noMetadata},
	{Name: "FILTER_STATE", Use: Empty, Note: noFilterState}, {Name: "UPSTREAM_FILTER_STATE", Use: Empty, Note: noFilterState},
	{Name: coalesce},
	{Name: "CEL", Use: Refused, Note: "expressions in formats are not evaluated; as a filter of an access log they are"},
	{Name: "TYPED_CEL", Use: Refused, Note: "expressions in formats are not evaluated; as a filter of an access log they are"},
	{Name: "FILE_CONTENT", Use: Refused, Note: "a configuration from the control plane may not read files of the proxy"},
	{Name: "SECRET", Use: Refused, Note: "secrets do not belong into a log"},
	// Egret's own: the words of package reason, and the sentence that goes with one.
	{Name: "EGRET_REASON", Note: "Egret's own: why it ended so, as one word of the closed list"},
	{Name: "EGRET_DETAIL", Note: "Egret's own: the sentence that goes with the reason"},
})

const onlyFirst = "where a request was tried once; \"-\" after retries, since only the last host is kept"

func sorted(list []Command) []Command {
	slices.SortFunc(list, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func checkNotEmpty(args string) error {
	if args == "" {
		return errors.New("an argument is needed")
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(args string) error {
		if !slices.Contains(words, args) {
			return fmt.Errorf("the argument is one of %q", words)
		}
		return nil
	}
}

// checkHeader: "name" or "name?alternative".
func checkHeader(args string) error {
	name, alternative, has := strings.Cut(args, "?")
	switch {
	case name == "":
		return errors.New("a header name is needed")
	case has && alternative == "":
		return errors.New("no alternative after \"?\"")
	case strings.Contains(alternative, "?"):
		return errors.New("more than one alternative")
	}
	return nil
}

// checkMask: nothing, or the length of an address prefix.
func checkMask(args string) error {
	if args == "" {
		return nil
	}
	if n, err := strconv.ParseUint(args, 10, 8); err != nil || n > 128 {
		return errors.New("the argument is a prefix length from 0 to 128")
	}
	return nil
}

// checkPath: "[WQ|NQ][:ORIG|PATH|ORIG_OR_PATH]".
func checkPath(args string) error {
	query, from, _ := strings.Cut(args, ":")
	if err := oneOf("", "WQ", "NQ")(query); err != nil {
		return err
	}
	return oneOf("", "ORIG", "PATH", "ORIG_OR_PATH")(from)
}

// checkServerName: "[SNI_ONLY|SNI_FIRST|HOST_FIRST][:ORIG|HOST|ORIG_OR_HOST]".
func checkServerName(args string) error {
	which, from, _ := strings.Cut(args, ":")
	if err := oneOf("", "SNI_ONLY", "SNI_FIRST", "HOST_FIRST")(which); err != nil {
		return err
	}
	return oneOf("", "ORIG", "HOST", "ORIG_OR_HOST")(from)
}

// checkCommonDuration: "START:END:PRECISION". Points in time that no filter of ours can
// set are no error, as in Envoy: they are never reached.
func checkCommonDuration(args string) error {
	points := strings.Split(args, ":")
	if len(points) != 3 || points[0] == "" || points[1] == "" {
		return errors.New("the argument is START:END:PRECISION")
	}
	return oneOf("ms", "us", "ns")(points[2])
}
