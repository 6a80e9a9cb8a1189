package http

import (
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
)

// stream2 is both directions of an HTTP/2 stream: a body and a sink.
type stream2 struct {
	*http2.Stream
	ended bool  // END_STREAM was written
	err   error // of the head
}

func (s *stream2) trailers() *http1.Fields { return s.Trailers() }

func (s *stream2) add(piece []byte, last bool) error {
	if s.err != nil {
		return s.err
	}
	s.ended = last
	return asWriteError(s.Write(piece, last))
}

// flush has nothing to do but to tell of the head: what is written goes out soon.
func (s *stream2) flush() error { return s.err }

func (s *stream2) end(trailers *http1.Fields) error {
	switch {
	case s.err != nil:
		return s.err
	case s.ended:
		return nil
	}
	s.ended = true
	if trailers != nil && trailers.Len() > 0 {
		return asWriteError(s.WriteTrailers(trailers))
	}
	return asWriteError(s.Write(nil, true))
}

// respond writes a response head; end: it is all of the response.
func (s *stream2) respond(r *http1.Response, end bool) {
	s.ended = end
	s.err = asWriteError(s.WriteResponse(r, end))
}
