package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// Bounds on the time that a client has to say what it speaks.
const (
	// defaultSniffTimeout bounds inspecting where the configuration does not (Istio's
	// protocolDetectionTimeout of 0 means "for ever"). A protocol where the server
	// speaks first waits for that long on a port that it shares with TLS or HTTP.
	defaultSniffTimeout = 5 * time.Second
	// deniedFirstByte and deniedRest bound looking at a connection that is refused in
	// any case, only to tell its name.
	deniedFirstByte = 200 * time.Millisecond
	deniedRest      = time.Second
)

// sniffed is what the first bytes of a connection say. Nothing of it is set for what
// was not looked for.
type sniffed struct {
	bytes []byte // everything read so far; to be sent on
	tls   bool
	hello hello  // of TLS
	http  string // http10, http11, http2c
	// bad says why the bytes are not acceptable to any chain: a malformed ClientHello,
	// or one that did not end in time.
	bad error
	// timedOut: the client said nothing decisive in time.
	timedOut bool
	// closed: the client went away.
	closed bool
}

var errHelloTimeout = errors.New("the ClientHello did not end in time")

// look reads from conn until the detectors that are asked for know, at most maxSniff
// bytes. It begins with what is already in s.bytes. first bounds the wait for the
// first byte, rest the time from then on.
func (s *sniffed) look(conn net.Conn, tls, http bool, first, rest time.Duration) {
	s.timedOut = false
	deadline := time.Now().Add(first)
	if len(s.bytes) > 0 {
		deadline = time.Now().Add(rest)
	}
	if s.detect(tls, http) {
		return
	}
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	for {
		_ = conn.SetReadDeadline(deadline)
		if len(s.bytes) == cap(s.bytes) {
			s.bytes = slices.Grow(s.bytes, max(1536, min(len(s.bytes), maxSniff-len(s.bytes))))
		}
		room := s.bytes[len(s.bytes):min(cap(s.bytes), maxSniff)]
		n, err := conn.Read(room)
		if n > 0 {
			if len(s.bytes) == 0 {
				deadline = time.Now().Add(rest)
			}
			s.bytes = s.bytes[:len(s.bytes)+n]
			if s.detect(tls, http) {
				return
			}
		}
		if err != nil {
			s.stopped(err, tls, http)
			return
		}
	}
}

// detect runs the detectors over what is there and reports whether all of them know.
func (s *sniffed) detect(tls, http bool) bool {
	full := len(s.bytes) >= maxSniff
	known := true
	if tls && !s.tls && s.bad == nil {
		h, err := parseClientHello(s.bytes)
		switch {
		case err == nil:
			s.tls, s.hello = true, h
		case errors.Is(err, errBadHello), errors.Is(err, errMore) && full:
			s.bad = errBadHello
		case errors.Is(err, errMore):
			known = false
		}
	}
	if s.tls || s.bad != nil {
		return true
	}
	if http && s.http == "" {
		word, err := detectHTTP(s.bytes)
		s.http = word
		if errors.Is(err, errMore) && !full {
			known = false
		}
	}
	return known
}

// stopped concludes when no more bytes come. A ClientHello that is not whole is
// never taken for something else: else a slow client could pass a name by.
func (s *sniffed) stopped(err error, tls, http bool) {
	s.timedOut = errors.Is(err, os.ErrDeadlineExceeded)
	s.closed = !s.timedOut && !errors.Is(err, io.EOF) // EOF may be a half close
	if tls && len(s.bytes) > 0 {
		if _, err := parseClientHello(s.bytes); errors.Is(err, errMore) {
			s.bad = errHelloTimeout
			return
		}
	}
	if http && s.http == "" && startsAsHTTP(s.bytes) {
		s.http = http11
	}
}
