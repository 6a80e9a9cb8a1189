package http2

import "github.com/egret-mesh/egret/internal/data/http1"

// queue is the received bytes of a stream that nobody has read. Its size is bounded by
// the stream's window.
type queue struct {
	pieces []piece
	n      int // bytes not handed out
}

// piece is a buffer of the pool: buf[r:w] has not been handed out.
type piece struct {
	buf  []byte
	r, w int
}

// push copies p. Many small frames share a buffer, so that they cost no more than their
// bytes.
func (q *queue) push(pool *http1.Pool, p []byte) {
	q.n += len(p)
	if i := len(q.pieces) - 1; i >= 0 {
		t := &q.pieces[i]
		k := copy(t.buf[t.w:], p)
		t.w += k
		p = p[k:]
	}
	for len(p) > 0 {
		var buf []byte
		if len(p) <= 4<<10 && len(q.pieces) == 0 {
			buf = pool.Small()
		} else {
			buf = pool.Body()
		}
		k := copy(buf, p)
		q.pieces = append(q.pieces, piece{buf: buf, w: k})
		p = p[k:]
	}
}

// pop hands out a piece, valid until the next call. There must be one.
func (q *queue) pop(pool *http1.Pool) []byte {
	for len(q.pieces) > 0 {
		h := &q.pieces[0]
		if h.r < h.w {
			p := h.buf[h.r:h.w]
			h.r = h.w
			q.n -= len(p)
			return p
		}
		q.shift(pool)
	}
	return nil
}

// shift gives the first buffer back.
func (q *queue) shift(pool *http1.Pool) {
	pool.Return(q.pieces[0].buf)
	n := copy(q.pieces, q.pieces[1:])
	q.pieces[n] = piece{}
	q.pieces = q.pieces[:n]
}

// reset gives everything back and returns how many bytes nobody read.
func (q *queue) reset(pool *http1.Pool) int {
	n := q.n
	for len(q.pieces) > 0 {
		q.shift(pool)
	}
	q.n = 0
	return n
}
