package http1

import (
	"errors"
	"io"
)

// Error is a refusal: the message breaks Rule. The errors of this package are
// shared values; compare them with errors.As or by Rule.
type Error struct {
	// Rule is a stable short word, for instance "content_length_conflict".
	Rule string
	// Status is what a server answers to such a request: 400, 414, 431, 501 or 505.
	Status int
	// Text is one sentence for people.
	Text string
}

// Error is "rule: text".
func (e *Error) Error() string { return e.Rule + ": " + e.Text }

// ErrHTTP2Preface says that the client spoke HTTP/2 with prior knowledge (RFC 9113
// section 3.4). The bytes stay in the buffer.
var ErrHTTP2Preface = errors.New("http1: HTTP/2 connection preface")

// ErrClosed says that the peer closed before the first byte of a message.
var ErrClosed = errors.New("http1: closed before a message began")

// ErrUnexpectedEOF says that the peer closed inside a message.
var ErrUnexpectedEOF = io.ErrUnexpectedEOF

// Refusals of the start line and of lines in general.
var (
	errBareLF        = &Error{"bare_lf", 400, "a line ends with LF without CR"}
	errBareCR        = &Error{"bare_cr", 400, "CR without LF"}
	errEmptyLines    = &Error{"empty_lines", 400, "more than one empty line before the request line"}
	errRequestLine   = &Error{"request_line", 400, "the request line is not method, target and version with one space between"}
	errLineTooLong   = &Error{"request_line_too_long", 414, "the request line is over the limit"}
	errStatusLine    = &Error{"status_line", 400, "the status line is not version, three digits and reason"}
	errMethod        = &Error{"method_invalid", 400, "the method has other characters than A-Z, digits, '-' and '_', or is too long"}
	errVersion       = &Error{"version_not_supported", 505, "the version is neither HTTP/1.1 nor HTTP/1.0"}
	errHeadTooLarge  = &Error{"header_section_too_large", 431, "the header section is over the limit"}
	errTooManyFields = &Error{"too_many_fields", 431, "there are more header fields than the limit"}
)

// Refusals of targets and hosts.
var (
	errTargetChar   = &Error{"target_character", 400, "the target has a control character or a space"}
	errTargetForm   = &Error{"target_form", 400, "the target has none of the forms that its method allows"}
	errTargetScheme = &Error{"target_scheme", 400, "the absolute target's scheme is neither http nor https"}
	errTargetUser   = &Error{"target_userinfo", 400, "the target or host has user information"}
	errHostMissing  = &Error{"host_missing", 400, "there is no Host field"}
	errHostRepeated = &Error{"host_repeated", 400, "there is more than one Host field"}
	errHostInvalid  = &Error{"host_invalid", 400, "the host is not a name or address with an optional port"}
	errHostTarget   = &Error{"host_target_mismatch", 400, "the target's authority differs from the Host field"}
)

// Refusals of header fields.
var (
	errObsFold       = &Error{"obs_fold", 400, "a field is folded over several lines"}
	errFieldNoColon  = &Error{"field_without_colon", 400, "a header line has no colon"}
	errFieldEmpty    = &Error{"field_name_empty", 400, "a field has no name"}
	errFieldSpace    = &Error{"space_before_colon", 400, "white space stands between a field name and its colon"}
	errFieldName     = &Error{"field_name_invalid", 400, "a field name has a character that is not allowed"}
	errFieldValue    = &Error{"field_value_control", 400, "a field value has a control character"}
	errFieldNUL      = &Error{"field_value_nul", 400, "a field value has a NUL byte"}
	errFieldLookLike = &Error{"framing_field_lookalike", 400, "a field name can be mistaken for Content-Length or Transfer-Encoding"}
)

// Refusals of framing.
var (
	errLengthInvalid    = &Error{"content_length_invalid", 400, "Content-Length is not a plain decimal number"}
	errLengthConflict   = &Error{"content_length_conflict", 400, "Content-Length fields differ"}
	errLengthRepeated   = &Error{"content_length_repeated", 400, "Content-Length is there more than once"}
	errLengthAndCoding  = &Error{"transfer_encoding_and_content_length", 400, "Transfer-Encoding and Content-Length are both there"}
	errCodingRepeated   = &Error{"transfer_encoding_repeated", 400, "Transfer-Encoding has chunked more than once"}
	errCodingLast       = &Error{"transfer_encoding_not_last", 400, "Transfer-Encoding does not end with chunked, or has too many codings"}
	errCodingUnknown    = &Error{"transfer_encoding_unknown", 501, "Transfer-Encoding has a coding that is not registered"}
	errCodingResponse   = &Error{"transfer_encoding_not_chunked", 501, "Transfer-Encoding is not exactly \"chunked\""}
	errCodingHTTP10     = &Error{"transfer_encoding_http10", 400, "Transfer-Encoding in HTTP/1.0"}
	errExpect           = &Error{"expect_unknown", 417, "Expect is not \"100-continue\""}
	errUpgradeBody      = &Error{"upgrade_with_body", 400, "a request to upgrade has a body"}
	errConnectBody      = &Error{"connect_with_body", 400, "CONNECT has a body"}
	errChunkSize        = &Error{"chunk_size_invalid", 400, "a chunk size is not a plain hexadecimal number"}
	errChunkOverflow    = &Error{"chunk_size_overflow", 400, "a chunk size is too large"}
	errChunkExtension   = &Error{"chunk_extension", 400, "a chunk has an extension"}
	errChunkEnd         = &Error{"chunk_end", 400, "chunk data is not followed by CRLF"}
	errTrailersTooLarge = &Error{"trailers_too_large", 431, "the trailer section is over the limit"}
	errTrailerForbidden = &Error{"trailer_forbidden", 400, "a trailer has a field that belongs into the header"}
)
