package http1

// Response is a parsed response head. Its strings alias the reader's buffer until
// Reader.Release.
type Response struct {
	Status int
	// Reason is the reason phrase, often "".
	Reason string
	// HTTP10: the version was HTTP/1.0.
	HTTP10 bool
	Fields Fields

	Framing Framing
	// Length of the body where Framing is Length.
	Length int64
	// Declared is the Content-Length field where there is one (also where there is no
	// body, as in answers to HEAD), or -1.
	Declared int64
	// Close: the server ends the connection after this response, or it cannot be
	// used again for another reason.
	Close bool
	// Upgrade is the Upgrade field of a 101 (Switching Protocols).
	Upgrade string
}

// Interim reports whether another response follows (1xx but 101).
func (s *Response) Interim() bool { return s.Status < 200 && s.Status != 101 }

// ReadResponse reads one response head into s; method is the request's. Interim
// responses are returned like others. Errors are as for ReadRequest.
func (r *Reader) ReadResponse(s *Response, method string) error {
	s.Fields.Reset()
	*s = Response{Fields: s.Fields, Declared: -1}
	head, err := r.readHead(false)
	if err != nil {
		return err
	}
	if e := s.parseLine(head[:r.ends[0]-1]); e != nil {
		return e
	}
	if e := r.parseFields(head, 1, &s.Fields); e != nil {
		return e
	}
	if e := s.interpret(method); e != nil {
		return e
	}
	return nil
}

// parseLine accepts "HTTP/1.x SP 3DIGIT [SP reason]". Servers are known to leave
// out the space before an empty reason, and no two parsers differ about it.
func (s *Response) parseLine(line []byte) *Error {
	if len(line) < 12 || line[8] != ' ' {
		return errStatusLine
	}
	switch text(line[:8]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		s.HTTP10 = true
	default:
		return errVersion
	}
	if !all(line[9:12], clsDigit) || line[9] < '1' || line[9] > '5' {
		return errStatusLine
	}
	s.Status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	if len(line) == 12 {
		return nil
	}
	if line[12] != ' ' {
		return errStatusLine
	}
	if err := checkValue(line[13:]); err != nil {
		return err
	}
	s.Reason = text(line[13:])
	return nil
}

func (s *Response) interpret(method string) *Error {
	var fr framing
	var upgrade string
	keepAlive := false
	for i := range s.Fields.list {
		f := &s.Fields.list[i]
		switch f.ID {
		case ContentLength:
			if err := fr.addLength(f.Value); err != nil {
				return err
			}
		case TransferEncoding:
			if fr.coding++; fr.coding > 1 {
				return errCodingRepeated
			}
			if fr.chunked = EqualFold(f.Value, "chunked"); !fr.chunked {
				return errCodingResponse
			}
		case Connection:
			s.Close = s.Close || hasToken(f.Value, "close")
			keepAlive = keepAlive || hasToken(f.Value, "keep-alive")
		case Upgrade:
			upgrade = f.Value
		}
	}
	if err := fr.check(s.HTTP10); err != nil {
		return err
	}
	if s.Status == 101 {
		s.Upgrade = upgrade
	}
	if fr.lengths > 0 {
		s.Declared = fr.length
	}
	s.Close = s.Close || s.HTTP10 && !keepAlive
	s.setFraming(&fr, method)
	return nil
}

// setFraming follows RFC 9112 section 6.3. A 1xx or 204 that announces a body
// makes the connection unfit for reuse: another parser might wait for that body.
func (s *Response) setFraming(fr *framing, method string) {
	switch {
	case s.Status < 200 || s.Status == 204:
		if fr.length > 0 || fr.chunked {
			s.Close = true
		}
	case method == "HEAD" || s.Status == 304:
	case method == "CONNECT" && s.Status < 300:
	case fr.chunked:
		s.Framing = Chunked
	case fr.lengths > 0:
		if fr.length > 0 {
			s.Framing, s.Length = Length, fr.length
		}
	default:
		s.Framing = UntilClose
		s.Close = true
	}
}
