package http1

// Framing is how a body ends (RFC 9112 section 6.3).
type Framing uint8

// Framings. UntilClose is for responses only.
const (
	NoBody Framing = iota
	Length
	Chunked
	UntilClose
)

// Form is the form of a request target (RFC 9112 section 3.2).
type Form uint8

// Forms.
const (
	OriginForm    Form = iota // "/path?query"
	AbsoluteForm              // "http://host/path?query"
	AuthorityForm             // "host:port", with CONNECT
	AsteriskForm              // "*", with OPTIONS
)

// maxMethod bounds the method; the longest registered one has 17 bytes.
const maxMethod = 32

// Request is a parsed request head. Its strings alias the reader's buffer until
// Reader.Release.
type Request struct {
	Method string
	// Target is as on the request line, but without a fragment, and with bytes that are
	// not ASCII percent-encoded. It is "" where the line had none.
	Target string
	Form   Form
	// Scheme is the absolute target's in lower case, or "".
	Scheme string
	// Authority is the host with its port, if any: of the Host field, which is the
	// same as the absolute or authority target's.
	Authority string
	// Path is the path with the query: "/" for an absolute target without a path,
	// "*" for the asterisk form, "" for CONNECT.
	Path string
	// HTTP10: the version was HTTP/1.0.
	HTTP10 bool
	Fields Fields

	Framing Framing
	// Length of the body where Framing is Length.
	Length int64
	// Codings are the transfer codings of the body besides chunked, in order, each with a
	// comma and a space behind it: names of the registry in lower case, or "". The body is
	// as they left it. Who sends it on must say so, or refuse.
	Codings string
	// Close: the client wants, or by its version expects, the connection to end; or it
	// must end unless it becomes a tunnel.
	Close bool
	// KeepAlive: Connection has "keep-alive" (which HTTP/1.0 needs to hear back).
	KeepAlive bool
	// Expect100: the client waits for 100 (Continue) before it sends the body.
	Expect100 bool
	// Upgrade is the Upgrade field where Connection names it, or "".
	Upgrade string
	// TETrailers: the client accepts trailers (TE has "trailers").
	TETrailers bool
}

// ReadRequest reads one request head into q. It returns an *Error where the
// client breaks a rule, ErrHTTP2Preface, ErrClosed, ErrUnexpectedEOF, or the
// source's error. After an *Error, q has what was understood until there.
func (r *Reader) ReadRequest(q *Request) error {
	q.reset()
	head, err := r.readHead(true)
	if err != nil {
		return err
	}
	if e := r.parseRequest(q, head); e != nil {
		if e == errVersion && q.Method == "PRI" && q.Target == "*" {
			r.r -= len(head)
			return ErrHTTP2Preface
		}
		return e
	}
	return nil
}

func (q *Request) reset() {
	q.Fields.Reset()
	*q = Request{Fields: q.Fields}
}

func (r *Reader) parseRequest(q *Request, head []byte) *Error {
	line := head[:r.ends[0]-1]
	if len(line) > r.limits.RequestLine {
		return errLineTooLong
	}
	if err := q.parseLine(line); err != nil {
		return err
	}
	if err := r.parseFields(head, 1, &q.Fields); err != nil {
		return err
	}
	if err := q.interpret(); err != nil {
		return err
	}
	return nil
}

// parseLine splits method, target and version. The method must be known before
// the version is judged: the HTTP/2 preface looks like a request line.
func (q *Request) parseLine(line []byte) *Error {
	i := 0
	for i < len(line) && class[line[i]]&clsMethod != 0 {
		i++
	}
	if i == 0 || i > maxMethod || i == len(line) || line[i] != ' ' {
		return errMethodOrLine(line, i)
	}
	q.Method = text(line[:i])
	rest := line[i+1:]
	j, plain := 0, true
	for j < len(rest) && class[rest[j]]&(clsTarget|clsTargetOther) != 0 {
		plain = plain && class[rest[j]]&clsTarget != 0
		j++
	}
	if j == len(rest) || rest[j] != ' ' {
		return errTargetOrLine(rest, j)
	}
	if q.Target = text(rest[:j]); !plain {
		if q.Target = cleanTarget(q.Target); q.Target == "" {
			return errTargetForm
		}
	}
	switch text(rest[j+1:]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		q.HTTP10 = true
	default:
		return errVersionOrLine(rest[j+1:])
	}
	return q.parseTarget()
}

func errMethodOrLine(line []byte, i int) *Error {
	if i == len(line) {
		return errRequestLine
	}
	return errMethod
}

func errTargetOrLine(rest []byte, j int) *Error {
	switch {
	case j < len(rest) && rest[j] == '\r':
		return errBareCR
	case j < len(rest) && rest[j] != ' ':
		return errTargetChar
	}
	return errRequestLine
}

func errVersionOrLine(v []byte) *Error {
	for _, c := range v {
		switch {
		case c == ' ' || c == '\t':
			return errRequestLine
		case c == '\r':
			return errBareCR
		}
	}
	return errVersion
}

// parseFields parses the lines from the given one up to the empty line.
func (r *Reader) parseFields(head []byte, from int, f *Fields) *Error {
	start := 0
	if from > 0 {
		start = int(r.ends[from-1]) + 1
	}
	for _, end := range r.ends[from : len(r.ends)-1] {
		if len(f.list) == r.limits.Fields {
			return errTooManyFields
		}
		if err := f.parseLine(head[start : end-1]); err != nil {
			return err
		}
		start = int(end) + 1
	}
	f.parsed = len(f.list)
	return nil
}

// parseLine parses "name: value" and adds it.
func (f *Fields) parseLine(line []byte) *Error {
	i := 0
	for i < len(line) && class[line[i]]&clsToken != 0 {
		i++
	}
	if i == len(line) || line[i] != ':' || i == 0 {
		return fieldNameError(line, i)
	}
	value := trim(line[i+1:])
	if err := checkValue(value); err != nil {
		return err
	}
	name := text(line[:i])
	id := identify(name)
	if id == Other && framingLookalike(name) {
		return errFieldLookLike
	}
	f.list = append(f.list, Field{Name: name, Value: text(value), ID: id})
	return nil
}

// fieldNameError says what is wrong with a name whose first bad byte is line[i].
func fieldNameError(line []byte, i int) *Error {
	if i == len(line) {
		return errFieldNoColon
	}
	switch c := line[i]; {
	case i == 0 && c == ':':
		return errFieldEmpty
	case i == 0 && (c == ' ' || c == '\t'):
		return errObsFold
	case c == '\r':
		return errBareCR
	case c == 0:
		return errFieldNUL
	case c == ' ' || c == '\t':
		if rest := trim(line[i:]); len(rest) > 0 && rest[0] == ':' {
			return errFieldSpace
		}
	}
	return errFieldName
}

// framing collects the fields that decide where the body ends.
type framing struct {
	length          int64
	lengths, coding int
	chunked         bool   // the last coding is chunked
	listed          bool   // it is said with more than the one word
	members         int    // codings besides chunked
	codings         string // each with a comma behind it
}

func (f *framing) addLength(v string) *Error {
	n, ok := parseLength(v)
	switch {
	case !ok:
		return errLengthInvalid
	case f.lengths > 0 && n != f.length:
		return errLengthConflict
	case f.lengths > 0:
		return errLengthRepeated
	}
	f.length = n
	f.lengths++
	return nil
}

func (f *framing) check(http10 bool) *Error {
	switch {
	case f.coding > 0 && f.lengths > 0:
		return errLengthAndCoding
	case f.coding > 0 && http10:
		return errCodingHTTP10
	case f.coding > 0 && !f.chunked:
		return errCodingLast
	}
	return nil
}

// parseLength accepts plain decimal digits without superfluous zeros, up to 2^63-1.
func parseLength(v string) (int64, bool) {
	if v == "" || len(v) > 19 || len(v) > 1 && v[0] == '0' {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(v); i++ {
		if class[v[i]]&clsDigit == 0 {
			return 0, false
		}
		n = n*10 + uint64(v[i]-'0')
	}
	return int64(n), n < 1<<63
}

// interpret gives the fields their meaning.
func (q *Request) interpret() *Error {
	var fr framing
	var upgrade, host string
	hosts, upgradeToken := 0, false
	for i := range q.Fields.list {
		f := &q.Fields.list[i]
		switch f.ID {
		case Other:
		case Host:
			host = f.Value
			hosts++
		case ContentLength:
			if err := fr.addLength(f.Value); err != nil {
				return err
			}
		case TransferEncoding:
			if err := fr.addCodings(f.Value); err != nil {
				return err
			}
		case Connection:
			q.Close = q.Close || hasToken(f.Value, "close")
			q.KeepAlive = q.KeepAlive || hasToken(f.Value, "keep-alive")
			upgradeToken = upgradeToken || hasToken(f.Value, "upgrade")
		case Upgrade:
			upgrade = f.Value
		case TE:
			q.TETrailers = q.TETrailers || hasToken(f.Value, "trailers")
		case Expect:
			if !EqualFold(f.Value, "100-continue") {
				return errExpect
			}
			q.Expect100 = !q.HTTP10
		}
	}
	if err := fr.check(q.HTTP10); err != nil {
		return err
	}
	if err := q.setHost(host, hosts); err != nil {
		return err
	}
	// h2c is refused by ignoring it, as RFC 9113 section 3.1 now wants and Envoy does.
	if upgradeToken && !q.HTTP10 && !EqualFold(upgrade, "h2c") {
		q.Upgrade = upgrade
	}
	// What a client sends already in the protocol that it hopes for must not be read as a
	// request where that is declined.
	switches := q.Upgrade != "" || q.Method == "CONNECT"
	q.Close = q.Close || q.HTTP10 && !q.KeepAlive || switches
	return q.setFraming(&fr)
}

func (q *Request) setFraming(fr *framing) *Error {
	switch {
	case fr.chunked:
		q.Framing, q.Codings = Chunked, fr.codings
		// Who hands requests to us may have read such a list otherwise: nothing that
		// follows on the connection is read (RFC 9112 section 6.1).
		q.Close = q.Close || fr.listed
	case fr.lengths > 0 && fr.length > 0:
		q.Framing, q.Length = Length, fr.length
	case fr.lengths > 0:
		q.Framing = NoBody
	}
	if q.Framing == NoBody {
		q.Expect100 = false
		return nil
	}
	if q.Method == "CONNECT" {
		return errConnectBody
	}
	if q.Upgrade != "" {
		return errUpgradeBody
	}
	return nil
}
