package http2

import (
	"errors"
	"os"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Code is an error code of RFC 9113 section 7.
type Code = xhttp2.ErrCode

// The error codes.
const (
	CodeNo              = xhttp2.ErrCodeNo
	CodeProtocol        = xhttp2.ErrCodeProtocol
	CodeInternal        = xhttp2.ErrCodeInternal
	CodeFlowControl     = xhttp2.ErrCodeFlowControl
	CodeSettingsTimeout = xhttp2.ErrCodeSettingsTimeout
	CodeStreamClosed    = xhttp2.ErrCodeStreamClosed
	CodeFrameSize       = xhttp2.ErrCodeFrameSize
	CodeRefusedStream   = xhttp2.ErrCodeRefusedStream
	CodeCancel          = xhttp2.ErrCodeCancel
	CodeCompression     = xhttp2.ErrCodeCompression
	CodeConnect         = xhttp2.ErrCodeConnect
	CodeCalm            = xhttp2.ErrCodeEnhanceYourCalm
	CodeHTTP11Required  = xhttp2.ErrCodeHTTP11Required
)

// Error is a rule that the peer broke. From a Stream it is the stream's, from Serve or
// Client.Err the connection's.
type Error struct {
	// Code is what the peer was told, in RST_STREAM or GOAWAY.
	Code Code
	// Rule is a stable short word, for instance "content_length_mismatch". A rule that
	// is http1's too has its word there.
	Rule string
	// Text is one sentence for people.
	Text string
	// Status is not 0 where the message is well-formed but over a limit: then the stream
	// has not been reset, and the server may answer with this status.
	Status int
}

// Error is "rule: text".
func (e *Error) Error() string { return e.Rule + ": " + e.Text }

// ResetError says that the peer ended the stream with RST_STREAM, or by a GOAWAY that
// leaves the stream out, which counts as CodeRefusedStream.
type ResetError struct{ Code Code }

// Error names the code.
func (e *ResetError) Error() string { return "http2: the peer reset the stream: " + e.Code.String() }

// NotProcessed reports whether the peer promises that it did nothing with the request,
// so that any request may be sent again (RFC 9113 section 8.7).
func (e *ResetError) NotProcessed() bool { return e.Code == CodeRefusedStream }

// Errors of connections and streams. ErrInterrupted is os.ErrDeadlineExceeded: the
// stream's deadline is in the past.
var (
	ErrInterrupted = os.ErrDeadlineExceeded
	// ErrNoCapacity: as many streams are open as the peer or Options allows.
	ErrNoCapacity = errors.New("http2: no stream is free")
	// ErrGoingAway: the connection takes no new streams; nothing was sent.
	ErrGoingAway = errors.New("http2: the connection takes no new streams")
	// ErrClosed: the connection was closed on this side, or by the peer between streams.
	ErrClosed = errors.New("http2: the connection is closed")
	// ErrSilent: the server did not answer a PING.
	ErrSilent = errors.New("http2: the server does not answer")
	// ErrReset: the stream was reset, or released, on this side.
	ErrReset = errors.New("http2: the stream was reset on this side")
	// ErrNoExtendedConnect: the peer did not offer extended CONNECT (RFC 8441).
	ErrNoExtendedConnect = errors.New("http2: the peer does not accept extended CONNECT")
)

// malformed is a message that the stream is reset for (RFC 9113 section 8.1.1).
func malformed(rule, text string) *Error {
	return &Error{Code: CodeProtocol, Rule: rule, Text: text}
}

// asMalformed is a refusal that http1 shares. Where http1 answers because a limit is
// exceeded, so does HTTP/2.
func asMalformed(e *http1.Error) *Error {
	m := malformed(e.Rule, e.Text)
	if e.Status == 431 || e.Status == 417 || e.Status == 414 {
		m.Status = e.Status
	}
	return m
}

// calm is for a peer that makes too much work.
func calm(rule, text string) *Error { return &Error{Code: CodeCalm, Rule: rule, Text: text} }
