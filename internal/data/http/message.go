package http

import (
	"io"
	"net"
	"slices"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// flushAt is when collected output is written although more input is there. A head and
// a piece of 8 KiB, which many origins write, fit: they go out with the piece after them.
// Every connection that waits for its reader holds this much.
const flushAt = 10 << 10

// stream1 is a body on an HTTP/1 connection.
type stream1 struct {
	http1.Body
	wire *wire // of its connection
}

func (b *stream1) trailers() *http1.Fields { return &b.Trailers }

// reset keeps the trailers' memory only.
func (b *stream1) reset() {
	b.Trailers.Reset()
	*b = stream1{Body: http1.Body{Trailers: b.Trailers}}
}

// message is a sink that writes one HTTP/1.1 message: small pieces go together with
// what is waiting in out (the head), large ones in one system call with it.
type message struct {
	wire *wire
	// chunked: the body is framed in chunks; else its bytes are written as they are.
	chunked bool
	// tunnel: the end of the body is the end of the sending direction.
	tunnel bool
	out    []byte // written before the next piece
}

var crlf = []byte("\r\n")

// reset keeps the memory of out unless it has grown large.
func (m *message) reset() { *m = message{out: scratch(m.out)} }

// writeError marks an error of the destination; others are the source's.
type writeError struct{ error }

func (w writeError) Unwrap() error { return w.error }

func asWriteError(err error) error {
	if err == nil {
		return nil
	}
	return writeError{err}
}

func (m *message) add(piece []byte, _ bool) error {
	need := len(m.out) + len(piece) + http1.ChunkOverhead
	if need <= flushAt && !(m.tunnel && len(m.out) == 0) {
		if need > max(cap(m.out), http1.SmallBuffer) {
			m.out = slices.Grow(m.out, flushAt-len(m.out)) // once, and no further
		}
		if m.chunked {
			m.out = http1.AppendChunkHead(m.out, len(piece))
		}
		m.out = append(m.out, piece...)
		if m.chunked {
			m.out = append(m.out, "\r\n"...)
		}
		return nil
	}
	if !m.chunked && len(m.out) == 0 {
		return asWriteError(m.wire.write(piece))
	}
	return m.addLarge(piece)
}

// addLarge writes what waits and the piece in one system call.
func (m *message) addLarge(piece []byte) error {
	var after []byte
	if m.chunked {
		m.out = http1.AppendChunkHead(m.out, len(piece))
		after = crlf
	}
	err := m.wire.writeParts(m.out, piece, after)
	m.out = m.out[:0]
	return asWriteError(err)
}

// end writes what is left, with the last chunk and trailers.
func (m *message) end(trailers *http1.Fields) error {
	if m.chunked {
		m.out = http1.AppendChunkEnd(m.out, trailers)
	}
	if err := m.flush(); err != nil || !m.tunnel {
		return err
	}
	if w, ok := m.wire.conn.(interface{ CloseWrite() error }); ok {
		return asWriteError(w.CloseWrite())
	}
	return asWriteError(net.ErrClosed)
}

func (m *message) flush() error {
	if len(m.out) == 0 {
		return nil
	}
	err := m.wire.write(m.out)
	m.out = m.out[:0]
	return asWriteError(err)
}

// rawBody is what follows on a connection that has become a tunnel. While it waits
// it holds no buffer: there are many quiet tunnels.
type rawBody struct {
	wire   *wire
	reader *http1.Reader // has what was read ahead
	buf    []byte
	done   bool
	none   http1.Fields
}

func (b *rawBody) Next() ([]byte, error) {
	if b.buf != nil {
		b.wire.pool.Return(b.buf)
		b.buf = nil
	}
	if ahead := b.reader.TakeBuffered(); len(ahead) > 0 {
		return ahead, nil
	}
	buf, n, err := b.wire.readFirst()
	if n > 0 {
		b.buf = buf
		return buf[:n], nil
	}
	b.done = err == io.EOF
	return nil, err
}

func (b *rawBody) Done() bool              { return b.done }
func (b *rawBody) Ready() bool             { return b.reader.Buffered() > 0 }
func (b *rawBody) Left() int64             { return -1 }
func (b *rawBody) trailers() *http1.Fields { return &b.none }
