package http

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/socket"
)

const (
	// spliceFrom is the rest of a body from which the kernel moves it between sockets.
	spliceFrom = 64 << 10
	// splicePiece is moved between two looks at progress.
	splicePiece = 1 << 20
)

// pump copies one body to where it goes, without waiting for input while output is
// held back, and by splice where it can.
type pump struct {
	body  body
	to    sink
	moved *atomic.Uint64
	// beforeLast, if any, is called before the last write.
	beforeLast func()
	total      int64 // payload bytes
	// frames, if any, counts the messages of a gRPC body.
	frames *frames

	// Where both sides are HTTP/1 over plain sockets; else nil.
	from  *stream1
	into  *message
	pipes *socket.Pool
}

// start gets the pump ready.
func (p *pump) start(from body, to sink, moved *atomic.Uint64, pipes *socket.Pool) {
	*p = pump{body: from, to: to, moved: moved, pipes: pipes}
	b, _ := from.(*stream1)
	if m, ok := to.(*message); ok && b != nil && b.wire != nil && b.wire.raw != nil && m.wire.raw != nil && !m.chunked {
		p.from, p.into = b, m
	}
}

// run copies until the end of the body. The error is a writeError or the body's.
func (p *pump) run() error {
	for {
		if p.body.Done() {
			return p.end()
		}
		if !p.body.Ready() && !p.more() {
			if err := p.to.flush(); err != nil {
				return err
			}
			if p.splices() {
				if err := p.splice(); err != nil {
					return err
				}
				continue
			}
		}
		piece, err := p.body.Next()
		if err == io.EOF {
			return p.end()
		}
		if err != nil {
			// What came before the error is the receiver's.
			return errors.Join(err, p.to.flush())
		}
		p.moved.Add(1)
		if len(piece) == 0 {
			continue
		}
		p.total += int64(len(piece))
		if p.frames != nil {
			p.frames.add(piece)
		}
		last := p.body.Done() && p.body.trailers().Len() == 0
		if last && p.beforeLast != nil {
			p.beforeLast()
		}
		if err := p.to.add(piece, last); err != nil {
			return err
		}
	}
}

// splices reports whether the kernel is to move what comes next.
func (p *pump) splices() bool {
	return p.from != nil && (p.body.Left() >= spliceFrom || p.from.UntilEnd())
}

// more takes what has come meanwhile, so that it goes out with what is collected. It
// does not wait.
func (p *pump) more() bool {
	return p.from != nil && !p.splices() && p.from.More(p.from.wire.tryRead)
}

func (p *pump) end() error {
	if p.beforeLast != nil {
		p.beforeLast()
	}
	return p.to.end(p.body.trailers())
}

// splice moves a part of the body.
func (p *pump) splice() error {
	n := int64(splicePiece)
	if left := p.body.Left(); left >= 0 {
		n = min(n, left)
		if n == left && p.beforeLast != nil {
			p.beforeLast()
		}
	}
	moved, err, writeErr := socket.Move(p.into.wire.raw, p.from.wire.raw, n, p.pipes, p.moved)
	p.total += moved
	p.from.Took(moved)
	switch {
	case writeErr != nil:
		return writeError{writeErr}
	case err == nil:
		return nil
	case err == io.EOF && p.from.UntilEnd():
		p.from.Finish()
		return nil
	case err == io.EOF:
		return http1.ErrUnexpectedEOF
	}
	return err
}
