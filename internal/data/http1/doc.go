// Package http1 is the HTTP/1.1 (and 1.0) codec: strict, streaming, and without
// allocation per message once warm. It reads requests and responses over a
// reusable buffer, hands out header fields that alias that buffer, decodes bodies
// piece by piece, and appends messages to byte slices.
//
// It follows RFC 9110 and RFC 9112, and where they leave a recipient the choice
// between repairing and refusing it refuses: whatever two parsers could read
// differently is an *Error with the name of the rule.
//
// It must not dial, route, log or know timeouts: it reads from an io.Reader and
// appends to slices. It must not import any other package of this module.
package http1
