package http1

import (
	"bytes"
	"io"
)

// Limits bound what a peer can make the reader keep. A zero field means the default.
type Limits struct {
	// HeaderBytes bounds the whole head: start line and header section. Default 60
	// KiB, Envoy's max_request_headers_kb.
	HeaderBytes int
	// Fields bounds the number of header fields. Default 100, Envoy's
	// max_headers_count. Also the number of trailer fields.
	Fields int
	// RequestLine bounds the request line. Default 16 KiB.
	RequestLine int
	// TrailerBytes bounds the trailer section. Default 8 KiB, at most 16 KiB.
	TrailerBytes int
}

// WithDefaults replaces zero fields by their defaults.
func (l Limits) WithDefaults() Limits {
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = 60 << 10
	}
	if l.Fields <= 0 {
		l.Fields = 100
	}
	if l.RequestLine <= 0 {
		l.RequestLine = 16 << 10
	}
	if l.TrailerBytes <= 0 {
		l.TrailerBytes = 8 << 10
	}
	l.TrailerBytes = min(l.TrailerBytes, bodyBuffer/2)
	return l
}

// Reader reads the messages of one direction of one connection. Use it as
// Request or Response (the head), then Body until io.EOF, then Release. It is not
// safe for concurrent use.
type Reader struct {
	src    io.Reader
	pool   *Pool
	limits Limits

	buf  []byte // nil while nothing is buffered
	r, w int    // buf[r:w] is not consumed yet

	// pinned is the buffer that the head's strings point into, once body bytes go
	// to another one.
	pinned    []byte
	headInBuf bool // the head's strings point into buf

	empty int     // lines seen before the request line
	scan  int     // buf[r:scan] has been searched for line ends
	line  int     // where the line under search begins
	ends  []int32 // offsets of LF from r, one per complete line of the head
}

// NewReader returns a reader of src. The pool is shared by many readers.
func NewReader(src io.Reader, pool *Pool, limits Limits) *Reader {
	return &Reader{src: src, pool: pool, limits: limits.WithDefaults()}
}

// Reset makes the reader read another source, with nothing buffered.
func (r *Reader) Reset(src io.Reader) {
	r.Release()
	r.drop()
	r.src = src
}

// SetHeaderBytes changes the limit for the heads that follow; 0 means the default.
func (r *Reader) SetHeaderBytes(n int) {
	r.limits.HeaderBytes = n
	r.limits = r.limits.WithDefaults()
}

// Buffered is the number of bytes that were read and not consumed.
func (r *Reader) Buffered() int { return r.w - r.r }

// Memory is the size of the buffer that it reads into, in bytes.
func (r *Reader) Memory() int { return len(r.buf) }

// Adopt gives the reader a buffer of its pool with n bytes already read into it.
// There must be nothing buffered.
func (r *Reader) Adopt(buf []byte, n int) {
	r.drop()
	r.buf, r.r, r.w = buf, 0, n
}

// Feed copies bytes that were read before the reader was made, for instance while sniffing.
func (r *Reader) Feed(p []byte) {
	r.ensure(len(p))
	r.w += copy(r.buf[r.w:], p)
}

// Release ends the message: its strings are no longer valid. Bytes of the next
// message stay; with none, the reader gives its memory back.
func (r *Reader) Release() {
	if r.pinned != nil {
		r.pool.put(r.pinned)
		r.pinned = nil
	}
	r.headInBuf, r.empty = false, 0
	r.ends = r.ends[:0]
	if r.r == r.w {
		r.drop()
	}
	r.scan, r.line = r.r, r.r
}

// Close gives all memory back.
func (r *Reader) Close() {
	r.r = r.w
	r.Release()
}

// TakeBuffered consumes and returns what is buffered; it is valid until the next
// use of the reader. For tunnels, after the last message.
func (r *Reader) TakeBuffered() []byte {
	p := r.buf[r.r:r.w]
	r.r = r.w
	return p
}

func (r *Reader) drop() {
	if r.buf != nil && !r.headInBuf {
		r.pool.put(r.buf)
		r.buf = nil
	}
	if !r.headInBuf {
		r.r, r.w = 0, 0
	}
	r.scan, r.line = r.r, r.r
}

// ensure makes room for n more bytes after buf[r:w]. It moves bytes only when no
// strings point into the buffer.
func (r *Reader) ensure(n int) {
	if len(r.buf)-r.w >= n {
		return
	}
	have := r.w - r.r
	if r.headInBuf {
		r.detach()
		return
	}
	shift := r.r
	if r.buf != nil && len(r.buf) >= have+n {
		copy(r.buf, r.buf[r.r:r.w])
	} else {
		size := max(have+n, SmallBuffer)
		if r.buf != nil {
			size = max(size, 2*len(r.buf))
		}
		fresh := r.pool.Get(size)
		copy(fresh, r.buf[r.r:r.w])
		if r.buf != nil {
			r.pool.put(r.buf)
		}
		r.buf = fresh
	}
	r.r, r.w = 0, have
	r.scan, r.line = max(0, r.scan-shift), max(0, r.line-shift)
}

// detach moves what is not consumed to a body buffer, and leaves the head's bytes
// where its strings point.
func (r *Reader) detach() {
	have := r.w - r.r
	fresh := r.pool.Get(max(have+minimalSpace, bodyBuffer))
	copy(fresh, r.buf[r.r:r.w])
	r.pinned, r.headInBuf = r.buf, false
	r.buf, r.r, r.w = fresh, 0, have
	r.scan, r.line = 0, 0
}

// fill reads once more. It returns the source's error only when nothing came.
func (r *Reader) fill(space int) error {
	r.ensure(space)
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// head reads until the buffer has a whole head and returns its lines: buf[r:] with
// the ends in r.ends, the last one the empty line's. request allows one empty
// line before it (RFC 9112 section 2.2).
func (r *Reader) head(request bool) *Error {
	for {
		i := bytes.IndexByte(r.buf[r.scan:r.w], '\n')
		if i < 0 {
			r.scan = r.w
			return nil // more bytes are needed
		}
		end := r.scan + i
		r.scan = end + 1
		if end == r.line || r.buf[end-1] != '\r' {
			return errBareLF
		}
		if end-r.line == 1 && len(r.ends) == 0 && request {
			if r.empty++; r.empty > 1 {
				return errEmptyLines
			}
			r.r, r.line = end+1, end+1
			continue
		}
		if len(r.ends) > r.limits.Fields+1 {
			return errTooManyFields
		}
		r.ends = append(r.ends, int32(end-r.r))
		if end-r.line == 1 {
			return nil
		}
		r.line = end + 1
	}
}

// complete reports whether r.ends has a whole head.
func (r *Reader) complete() bool {
	n := len(r.ends)
	return n > 0 && (n == 1 && r.ends[0] == 1 || n > 1 && r.ends[n-1]-r.ends[n-2] == 2)
}

// readHead reads a head and returns its bytes; the reader has consumed them. The
// lines' ends are in r.ends.
func (r *Reader) readHead(request bool) ([]byte, error) {
	for {
		if err := r.head(request); err != nil {
			return nil, err
		}
		if r.complete() {
			break
		}
		if err := r.tooLarge(request); err != nil {
			return nil, err
		}
		if err := r.fill(minimalSpace); err != nil {
			if err == io.EOF && r.w > r.r {
				return nil, ErrUnexpectedEOF
			}
			if err == io.EOF {
				return nil, ErrClosed
			}
			return nil, err
		}
	}
	n := int(r.ends[len(r.ends)-1]) + 1
	if n > r.limits.HeaderBytes {
		return nil, errHeadTooLarge
	}
	head := r.buf[r.r : r.r+n]
	r.r += n
	r.headInBuf = true
	return head, nil
}

// tooLarge refuses an unfinished head early.
func (r *Reader) tooLarge(request bool) error {
	if r.w-r.r > r.limits.HeaderBytes {
		return errHeadTooLarge
	}
	if request && len(r.ends) == 0 && r.w-r.r > r.limits.RequestLine {
		return errLineTooLong
	}
	return nil
}
