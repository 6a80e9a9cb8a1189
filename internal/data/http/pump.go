package http

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/http1"
)

const (
	// flushAt is when collected output is written although more input is there.
	flushAt = 16 << 10
	// spliceFrom is the rest of a body from which the kernel moves it between sockets.
	spliceFrom = 64 << 10
	// splicePiece is moved between two looks at progress.
	splicePiece = 1 << 20
)

// pump copies one body from one connection to another: framed anew, coalescing small
// pieces with what is waiting in out (a head), and by splice where it can.
type pump struct {
	body *http1.Body
	src  *net.TCPConn // nil: no splice
	dst  *wire
	// chunked: the destination wants chunks; else the bytes as they are.
	chunked bool
	out     []byte // written before the next piece
	moved   *atomic.Uint64
	// beforeLast, if any, is called before the last write.
	beforeLast func()
	total      int64 // payload bytes
	limited    io.LimitedReader
	vectors    [3][]byte
	unwritten  net.Buffers // a view of vectors
}

// writeError marks an error of the destination; others are the source's.
type writeError struct{ error }

func (w writeError) Unwrap() error { return w.error }

// run copies until the end of the body. The error is a writeError or the body's.
func (p *pump) run() error {
	for {
		if p.body.Done() {
			return p.end()
		}
		if !p.body.Ready() {
			if err := p.flush(); err != nil {
				return err
			}
			if p.canSplice() {
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
			return errors.Join(err, p.flush())
		}
		p.moved.Add(1)
		if err := p.add(piece); err != nil {
			return err
		}
	}
}

// add writes a piece, or keeps it for the next write when it is small.
func (p *pump) add(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	p.total += int64(len(piece))
	if len(p.out)+len(piece)+http1.ChunkOverhead <= flushAt {
		if p.chunked {
			p.out = http1.AppendChunkHead(p.out, len(piece))
		}
		p.out = append(p.out, piece...)
		if p.chunked {
			p.out = append(p.out, "\r\n"...)
		}
		return nil
	}
	if !p.chunked && len(p.out) == 0 {
		if p.body.Done() && p.beforeLast != nil {
			p.beforeLast()
		}
		return asWriteError(p.dst.write(piece))
	}
	return p.addLarge(piece)
}

// addLarge writes what waits and the piece in one system call.
func (p *pump) addLarge(piece []byte) error {
	p.vectors[2] = nil
	if p.chunked {
		p.out = http1.AppendChunkHead(p.out, len(piece))
		p.vectors[2] = []byte("\r\n")
	} else if p.body.Done() && p.beforeLast != nil {
		p.beforeLast()
	}
	p.vectors[0], p.vectors[1] = p.out, piece
	p.unwritten = p.vectors[:]
	_, err := p.unwritten.WriteTo(p.dst.conn)
	p.out = p.out[:0]
	return asWriteError(err)
}

// end writes what is left, with the last chunk and trailers.
func (p *pump) end() error {
	if p.chunked {
		p.out = http1.AppendChunkEnd(p.out, &p.body.Trailers)
	}
	if p.beforeLast != nil {
		p.beforeLast()
	}
	return p.flush()
}

func (p *pump) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	err := p.dst.write(p.out)
	p.out = p.out[:0]
	return asWriteError(err)
}

// canSplice reports whether the rest of the body may go directly from socket to socket.
func (p *pump) canSplice() bool {
	if p.src == nil || p.dst.tcp == nil || p.chunked {
		return false
	}
	return p.body.Left() >= spliceFrom || p.body.UntilEnd()
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
	p.limited = io.LimitedReader{R: p.src, N: n}
	moved, err := p.dst.tcp.ReadFrom(&p.limited)
	p.total += moved
	p.body.Took(moved)
	p.moved.Add(1)
	switch {
	case err != nil:
		return err // of either side: the connections tell which
	case moved == n:
		return nil
	case p.body.UntilEnd():
		p.body.Finish()
		return nil
	}
	return http1.ErrUnexpectedEOF
}

func asWriteError(err error) error {
	if err == nil {
		return nil
	}
	return writeError{err}
}
