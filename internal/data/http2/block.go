package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Refusals of header blocks that HTTP/1.1 has no word for.
var (
	errPseudoLate     = malformed("pseudo_field_late", "a pseudo-header field follows a regular field")
	errPseudoUnknown  = malformed("pseudo_field_unknown", "a pseudo-header field has no meaning here")
	errPseudoRepeated = malformed("pseudo_field_repeated", "a pseudo-header field is there more than once")
	errPseudoMissing  = malformed("pseudo_field_missing", "a pseudo-header field that must be there is missing")
	errPseudoTrailer  = malformed("pseudo_field_in_trailers", "a trailer section has a pseudo-header field")
	errConnectPseudo  = malformed("connect_pseudo_fields", "CONNECT has :scheme or :path")
	errConnField      = malformed("connection_field", "a field belongs to HTTP/1.1 connections, not to HTTP/2")
	errTE             = malformed("te_not_trailers", "TE is not \"trailers\"")
	errValueSpace     = malformed("field_value_space", "a field value begins or ends with white space")
	errProtocol       = malformed("protocol_invalid", ":protocol is not a token, or extended CONNECT was not offered")
	errStatus         = malformed("status_invalid", ":status is not three digits from 100 to 599, or is 101")
	errLengthMismatch = malformed("content_length_mismatch", "the DATA frames do not add up to Content-Length")
	errBodyUnexpected = malformed("body_not_allowed", "a response that has no body comes with one")
	errInterimEnd     = malformed("interim_ends_stream", "an interim response ends the stream")
	errSelfDependency = malformed("priority_self", "a stream depends on itself")
	errTrailersNoEnd  = malformed("trailers_without_end", "a trailer section does not end the stream")
)

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus

	pseudoOfRequest = pseudoMethod | pseudoScheme | pseudoAuthority | pseudoPath | pseudoProtocol
)

// blockKind is what a header block is.
type blockKind uint8

const (
	blockDropped blockKind = iota // of a stream that is not served: decoded, because the table is shared
	blockRequest
	blockResponse
	blockTrailers
)

// block is a header block while it is decoded. It judges field by field and keeps the
// first rule that is broken; what came before it stays, for the record.
type block struct {
	kind   blockKind
	stream uint32
	end    bool // END_STREAM
	limits http1.Limits

	have      pseudo
	method    string
	scheme    string
	authority string
	path      string
	protocol  string
	status    string
	cookie    string
	cookies   int

	fields  http1.Fields
	n       int // number of fields
	size    int // as RFC 7541 section 4.1 counts
	regular bool
	err     *Error

	open    bool // CONTINUATION follows
	frames  int  // CONTINUATION frames
	encoded int  // bytes of the block as received
}

func (b *block) begin(kind blockKind, stream uint32, end bool) {
	b.fields.Reset()
	*b = block{kind: kind, stream: stream, end: end, limits: b.limits, fields: b.fields}
}

// add takes one decoded field.
func (b *block) add(f hpack.HeaderField) {
	if b.err != nil || b.kind == blockDropped {
		return
	}
	b.size += len(f.Name) + len(f.Value) + 32
	b.n++
	if b.err = b.bounds(); b.err != nil {
		return
	}
	if f.Name != "" && f.Name[0] == ':' {
		b.err = b.addPseudo(f.Name, f.Value)
		return
	}
	b.regular = true
	b.err = b.addField(f.Name, f.Value)
}

func (b *block) bounds() *Error {
	switch {
	case b.kind == blockTrailers && b.size > b.limits.TrailerBytes:
		return asMalformed(http1.ErrTrailersTooLarge)
	case b.size > b.limits.HeaderBytes:
		return asMalformed(http1.ErrHeadTooLarge)
	case b.n > b.limits.Fields+5: // pseudo-header fields are not counted
		return asMalformed(http1.ErrTooManyFields)
	}
	return nil
}

func (b *block) addPseudo(name, value string) *Error {
	if b.kind == blockTrailers {
		return errPseudoTrailer
	}
	if b.regular {
		return errPseudoLate
	}
	var p pseudo
	var to *string
	switch name {
	case ":method":
		p, to = pseudoMethod, &b.method
	case ":scheme":
		p, to = pseudoScheme, &b.scheme
	case ":authority":
		p, to = pseudoAuthority, &b.authority
	case ":path":
		p, to = pseudoPath, &b.path
	case ":protocol":
		p, to = pseudoProtocol, &b.protocol
	case ":status":
		p, to = pseudoStatus, &b.status
	}
	allowed := pseudoOfRequest
	if b.kind == blockResponse {
		allowed = pseudoStatus
	}
	switch {
	case p&allowed == 0:
		return errPseudoUnknown
	case b.have&p != 0:
		return errPseudoRepeated
	}
	b.have |= p
	*to = value
	return nil
}

func (b *block) addField(name, value string) *Error {
	id, bad := http1.CheckLowerName(name)
	if bad != nil {
		return asMalformed(bad)
	}
	if bad := http1.CheckValue(value); bad != nil {
		return asMalformed(bad)
	}
	if n := len(value); n > 0 && (isSpace(value[0]) || isSpace(value[n-1])) {
		return errValueSpace
	}
	switch id {
	case http1.Connection, http1.KeepAlive, http1.TransferEncoding, http1.Upgrade:
		return errConnField
	case http1.ProxyHop:
		if name == "proxy-connection" {
			return errConnField
		}
	case http1.Other:
		if b.kind == blockRequest && name == "cookie" {
			b.addCookie(value)
			return nil
		}
	}
	b.fields.AddParsed(name, value, id)
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// addCookie joins crumbs (RFC 9113 section 8.2.3).
func (b *block) addCookie(value string) {
	if b.cookies++; b.cookies == 1 {
		b.cookie = value
		return
	}
	b.cookie += "; " + value
}

// request makes a request of the block. On an error q has what was understood.
func (b *block) request(q *http1.Request, extended bool) *Error {
	q.Fields, b.fields = b.fields, q.Fields
	if b.cookies > 0 {
		q.Fields.AddParsed("cookie", b.cookie, http1.Other)
	}
	q.Method, q.Scheme, q.Authority, q.Path, q.Target = b.method, b.scheme, b.authority, b.path, b.path
	if b.err != nil {
		return b.err
	}
	if err := b.target(q, extended); err != nil {
		return err
	}
	return b.interpretRequest(q)
}

// target judges the pseudo-header fields (RFC 9113 sections 8.3.1 and 8.5, RFC 8441
// section 4). Extended CONNECT becomes what it is in HTTP/1.1: GET with Upgrade.
func (b *block) target(q *http1.Request, extended bool) *Error {
	if b.have&pseudoMethod == 0 {
		return errPseudoMissing
	}
	if err := http1.CheckMethod(q.Method); err != nil {
		return asMalformed(err)
	}
	connect := q.Method == "CONNECT"
	if b.have&pseudoProtocol != 0 {
		if !connect || !extended || !isToken(b.protocol) || b.have&pseudoAuthority == 0 {
			return errProtocol
		}
		q.Method, q.Upgrade = "GET", b.protocol
		connect = false
	}
	if connect {
		return b.connectTarget(q)
	}
	if b.have&(pseudoScheme|pseudoPath) != pseudoScheme|pseudoPath {
		return errPseudoMissing
	}
	if q.Scheme != "http" && q.Scheme != "https" {
		return asMalformed(http1.ErrTargetScheme)
	}
	path, err := http1.CleanPath(q.Method, q.Path)
	if err != nil {
		return asMalformed(err)
	}
	q.Path, q.Target = path, path
	if len(q.Path) > b.limits.RequestLine {
		return &Error{CodeProtocol, "request_line_too_long", "the path is over the limit", 414}
	}
	if q.Path == "*" {
		q.Form = http1.AsteriskForm
	}
	if b.have&pseudoAuthority != 0 {
		if err := http1.CheckAuthority(q.Authority, false); err != nil {
			return asMalformed(err)
		}
	}
	return nil
}

func (b *block) connectTarget(q *http1.Request) *Error {
	q.Form, q.Target = http1.AuthorityForm, q.Authority
	switch {
	case b.have&(pseudoScheme|pseudoPath) != 0:
		return errConnectPseudo
	case b.have&pseudoAuthority == 0:
		return errPseudoMissing
	}
	if err := http1.CheckAuthority(q.Authority, true); err != nil {
		return asMalformed(err)
	}
	return nil
}

func isToken(s string) bool {
	_, err := http1.CheckLowerName(strings.ToLower(s))
	return err == nil
}

// length collects Content-Length fields.
type length struct {
	n     int64
	count int
}

func (l *length) add(v string) *Error {
	n, ok := http1.ParseLength(v)
	switch {
	case !ok:
		return asMalformed(http1.ErrLengthInvalid)
	case l.count > 0 && n != l.n:
		return asMalformed(http1.ErrLengthConflict)
	case l.count > 0:
		return asMalformed(http1.ErrLengthRepeated)
	}
	l.n, l.count = n, 1
	return nil
}

func (b *block) interpretRequest(q *http1.Request) *Error {
	var l length
	var host string
	hosts := 0
	for f := range q.Fields.Each {
		switch f.ID {
		case http1.Host:
			host = f.Value
			hosts++
		case http1.ContentLength:
			if err := l.add(f.Value); err != nil {
				return err
			}
		case http1.TE:
			if !http1.EqualFold(f.Value, "trailers") {
				return errTE
			}
			q.TETrailers = true
		case http1.Expect:
			if !http1.EqualFold(f.Value, "100-continue") {
				return asMalformed(http1.ErrExpect)
			}
			q.Expect100 = true
		}
	}
	if err := b.host(q, host, hosts); err != nil {
		return err
	}
	return b.requestFraming(q, &l)
}

// host judges the Host field against :authority (RFC 9113 section 8.3.1).
func (b *block) host(q *http1.Request, host string, count int) *Error {
	switch {
	case count > 1:
		return asMalformed(http1.ErrHostRepeated)
	case count == 0 && b.have&pseudoAuthority == 0:
		return asMalformed(http1.ErrHostMissing)
	case count == 0:
		return nil
	}
	if err := http1.CheckAuthority(host, false); err != nil {
		return asMalformed(err)
	}
	if b.have&pseudoAuthority == 0 {
		q.Authority = host
		return nil
	}
	if !http1.SameAuthority(q.Authority, host, q.Scheme) {
		return asMalformed(http1.ErrHostTarget)
	}
	return nil
}

// requestFraming says how the body ends. A tunnel has none: its bytes are not the
// request's.
func (b *block) requestFraming(q *http1.Request, l *length) *Error {
	if q.Form == http1.AuthorityForm || q.Upgrade != "" {
		if l.count > 0 {
			return errLengthMismatch // RFC 9110 section 9.3.6: no content
		}
		q.Expect100 = false
		return nil
	}
	switch {
	case b.end && l.n > 0:
		return errLengthMismatch
	case b.end, l.count > 0 && l.n == 0:
		q.Expect100 = false
	case l.count > 0:
		q.Framing, q.Length = http1.Length, l.n
	default:
		q.Framing = http1.Chunked
	}
	return nil
}

// response makes a response of the block. method is the request's; upgrade is the
// :protocol of an extended CONNECT, whose 2xx becomes HTTP/1.1's 101.
func (b *block) response(s *http1.Response, method, upgrade string) *Error {
	s.Fields, b.fields = b.fields, s.Fields
	s.Declared = -1
	if b.err != nil {
		return b.err
	}
	if b.have&pseudoStatus == 0 {
		return errPseudoMissing
	}
	status, ok := parseStatus(b.status)
	if !ok {
		return errStatus
	}
	s.Status = status
	var l length
	for f := range s.Fields.Each {
		if f.ID == http1.ContentLength {
			if err := l.add(f.Value); err != nil {
				return err
			}
		}
	}
	if l.count > 0 {
		s.Declared = l.n
	}
	if s.Interim() && b.end {
		return errInterimEnd
	}
	if upgrade != "" && status == 200 {
		s.Status, s.Upgrade = 101, upgrade
		return nil
	}
	return b.responseFraming(s, &l, method)
}

// parseStatus refuses 101, which HTTP/2 does not have (RFC 9113 section 8.6).
func parseStatus(v string) (int, bool) {
	if len(v) != 3 || v == "101" {
		return 0, false
	}
	n := 0
	for i := 0; i < 3; i++ {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
		n = n*10 + int(v[i]-'0')
	}
	return n, n >= 100 && n < 600
}

func (b *block) responseFraming(s *http1.Response, l *length, method string) *Error {
	switch {
	case s.Status < 200 || s.Status == 204 || s.Status == 304 || method == "HEAD":
	case method == "CONNECT" && s.Status < 300:
	case b.end && l.n > 0:
		return errLengthMismatch
	case b.end, l.count > 0 && l.n == 0:
	case l.count > 0:
		s.Framing, s.Length = http1.Length, l.n
	default:
		s.Framing = http1.Chunked
	}
	return nil
}

// trailers judges a trailer section.
func (b *block) trailers() *Error {
	if b.err != nil {
		return b.err
	}
	for f := range b.fields.Each {
		if http1.ForbiddenTrailer(f) {
			return asMalformed(http1.ErrTrailerForbidden)
		}
	}
	return nil
}
