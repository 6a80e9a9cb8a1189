package http1

import (
	"bytes"
	"io"
)

// maxChunkLine bounds a chunk's size line, with extensions where allowed.
const maxChunkLine = 256

// maxExtensions bounds the bytes of all chunk extensions of one body; they are
// dropped, so they may only cost the peer.
const maxExtensions = 16 << 10

// Body reads the payload of one message, piece by piece.
type Body struct {
	r       *Reader
	framing Framing
	left    int64 // of the length, or of the current chunk
	state   chunkState
	// extensions counts bytes of chunk extensions; negative: refuse any.
	extensions int
	done       bool
	// Trailers of a chunked body, after io.EOF. Their strings alias the buffer.
	Trailers Fields
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkCRLF
	chunkTrailers
)

// Start begins the body of the head that the reader read last. Chunk extensions
// are refused in requests, and bounded and dropped in responses (RFC 9112 section
// 7.1.1 wants a recipient to ignore them).
func (b *Body) Start(r *Reader, f Framing, length int64, request bool) {
	b.Trailers.Reset()
	*b = Body{r: r, framing: f, left: length, Trailers: b.Trailers}
	if request {
		b.extensions = -1
	}
	switch f {
	case NoBody:
		b.done = true
	case Chunked, UntilClose:
		b.left = 0
	}
}

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.done }

// Ready reports whether Next surely goes on without reading from the source. Who
// collects output before writing it must write when it is not.
func (b *Body) Ready() bool {
	if b.done {
		return false
	}
	rest := b.r.buf[b.r.r:b.r.w]
	if b.framing != Chunked || len(rest) == 0 {
		return len(rest) > 0
	}
	state := b.state
	if state == chunkCRLF {
		rest, state = rest[min(2, len(rest)):], chunkSize
	}
	if state == chunkSize {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return false
		}
		if state = chunkData; rest[0] == '0' {
			state = chunkTrailers // or a number with a zero first: then this says no too often
		}
		rest = rest[i+1:]
	}
	if state == chunkTrailers {
		return bytes.HasPrefix(rest, crlf) || bytes.Contains(rest, crlfcrlf)
	}
	return len(rest) > 0
}

var crlf, crlfcrlf = []byte("\r\n"), []byte("\r\n\r\n")

// Next returns the next piece of the payload, valid until the next call of any
// method of the reader. It returns io.EOF after the last piece, ErrUnexpectedEOF
// where the peer closed early, or an *Error.
func (b *Body) Next() ([]byte, error) {
	if b.done {
		return nil, io.EOF
	}
	switch b.framing {
	case Length:
		return b.nextLength()
	case UntilClose:
		return b.nextUntilClose()
	}
	return b.nextChunked()
}

func (b *Body) nextLength() ([]byte, error) {
	p, err := b.take()
	if err != nil {
		return nil, err
	}
	if b.left == 0 {
		b.done = true
	}
	return p, nil
}

// take returns up to left bytes, reading when there are none.
func (b *Body) take() ([]byte, error) {
	if b.r.r == b.r.w {
		if err := b.r.more(b.left); err != nil {
			return nil, unexpected(err)
		}
	}
	p := b.r.buf[b.r.r:b.r.w]
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	b.r.r += len(p)
	b.left -= int64(len(p))
	return p, nil
}

func (b *Body) nextUntilClose() ([]byte, error) {
	if b.r.r == b.r.w {
		if err := b.r.more(0); err != nil {
			if err == io.EOF {
				b.done = true
			}
			return nil, err
		}
	}
	p := b.r.buf[b.r.r:b.r.w]
	b.r.r = b.r.w
	return p, nil
}

// more reads more bytes of a body whose rest is want bytes, or not known (0). A
// small rest may stay behind the head; else it goes to a buffer made for bodies.
func (r *Reader) more(want int64) error {
	switch {
	case r.headInBuf && want > 0 && want <= int64(len(r.buf)-r.w):
		return r.fill(1)
	case r.headInBuf:
		r.detach()
	case r.r == r.w && len(r.buf) < bodyBuffer:
		if r.buf != nil {
			r.pool.put(r.buf)
		}
		r.buf, r.r, r.w = r.pool.Get(bodyBuffer), 0, 0
		r.scan, r.line = 0, 0
	case r.r == r.w:
		r.r, r.w, r.scan, r.line = 0, 0, 0, 0
	}
	return r.fill(minimalSpace)
}

// More takes bytes of the source that are there already, without waiting: read reads once
// and returns 0 where there is nothing, or what there is is for Next to find out. It
// reports whether Next can go on. It is for a body of known length of which nothing is
// buffered.
func (b *Body) More(read func(p []byte) int) bool {
	r := b.r
	if b.done || b.framing != Length || r.r != r.w {
		return false
	}
	buf := r.pool.Get(int(min(b.left, largeBuffer)))
	n := read(buf)
	if n <= 0 {
		r.pool.put(buf)
		return false
	}
	switch {
	case r.headInBuf:
		r.pinned, r.headInBuf = r.buf, false
	case r.buf != nil:
		r.pool.put(r.buf)
	}
	r.buf, r.r, r.w = buf, 0, n
	r.scan, r.line = 0, 0
	return true
}

func unexpected(err error) error {
	if err == io.EOF {
		return ErrUnexpectedEOF
	}
	return err
}

func (b *Body) nextChunked() ([]byte, error) {
	for {
		switch b.state {
		case chunkSize:
			size, err := b.readSize()
			if err != nil {
				return nil, err
			}
			b.left, b.state = size, chunkData
			if size == 0 {
				b.state = chunkTrailers
			}
		case chunkData:
			p, err := b.take()
			if err != nil {
				return nil, err
			}
			if b.left == 0 {
				b.state = chunkCRLF
			}
			return p, nil
		case chunkCRLF:
			if err := b.readCRLF(); err != nil {
				return nil, err
			}
			b.state = chunkSize
		case chunkTrailers:
			if err := b.readTrailers(); err != nil {
				return nil, err
			}
			b.done = true
			return nil, io.EOF
		}
	}
}

// readSize reads "1*HEXDIG [extensions] CRLF".
func (b *Body) readSize() (int64, error) {
	line, err := b.r.lineOf(maxChunkLine, errChunkSize)
	if err != nil {
		return 0, err
	}
	n, i := int64(0), 0
	for i < len(line) && class[line[i]]&clsHex != 0 {
		if i == 16 || n >= 1<<58 {
			return 0, errChunkOverflow
		}
		n = n<<4 | int64(hexDigit(line[i]))
		i++
	}
	if i == 0 {
		return 0, errChunkSize
	}
	if i < len(line) {
		if err := b.extension(line[i:]); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// extension accepts ";" and visible characters, where extensions are accepted.
func (b *Body) extension(ext []byte) error {
	if ext[0] != ';' {
		return errChunkSize
	}
	if b.extensions < 0 {
		return errChunkExtension
	}
	b.extensions += len(ext)
	if b.extensions > maxExtensions || checkValue(ext) != nil {
		return errChunkExtension
	}
	return nil
}

func hexDigit(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

// lineOf reads one line of at most limit bytes and returns it without its CRLF.
func (r *Reader) lineOf(limit int, tooLong *Error) ([]byte, error) {
	searched := 0
	for {
		have := r.buf[r.r:r.w]
		if i := bytes.IndexByte(have[searched:], '\n'); i >= 0 {
			end := searched + i
			if end > limit {
				return nil, tooLong
			}
			if end == 0 || have[end-1] != '\r' {
				return nil, errBareLF
			}
			r.r += end + 1
			line := have[:end-1]
			if bytes.IndexByte(line, '\r') >= 0 {
				return nil, errBareCR
			}
			return line, nil
		}
		searched = len(have)
		if searched > limit {
			return nil, tooLong
		}
		if err := r.more(0); err != nil {
			return nil, unexpected(err)
		}
	}
}

func (b *Body) readCRLF() error {
	for b.r.w-b.r.r < 2 {
		if b.r.w > b.r.r && b.r.buf[b.r.r] != '\r' {
			return errChunkEnd
		}
		if err := b.r.more(0); err != nil {
			return unexpected(err)
		}
	}
	if b.r.buf[b.r.r] != '\r' || b.r.buf[b.r.r+1] != '\n' {
		return errChunkEnd
	}
	b.r.r += 2
	return nil
}

// readTrailers waits until the whole trailer section is buffered, so that the
// fields' strings stay where they are.
func (b *Body) readTrailers() error {
	r := b.r
	for {
		n, err := trailersEnd(r.buf[r.r:r.w], r.limits)
		if err != nil {
			return err
		}
		if n > 0 {
			section := r.buf[r.r : r.r+n]
			r.r += n
			return b.parseTrailers(section)
		}
		if err := r.more(0); err != nil {
			return unexpected(err)
		}
	}
}

// trailersEnd returns the length of the trailer section with its empty line, or 0
// when it is not complete.
func trailersEnd(p []byte, limits Limits) (int, error) {
	start, lines := 0, 0
	for {
		i := bytes.IndexByte(p[start:], '\n')
		if start+max(i, 0) > limits.TrailerBytes || i < 0 && len(p) > limits.TrailerBytes {
			return 0, errTrailersTooLarge
		}
		if i < 0 {
			return 0, nil
		}
		if i == 0 || p[start+i-1] != '\r' {
			return 0, errBareLF
		}
		start += i + 1
		if i == 1 {
			return start, nil
		}
		if lines++; lines > limits.Fields {
			return 0, errTooManyFields
		}
	}
}

func (b *Body) parseTrailers(p []byte) error {
	for len(p) > 2 {
		i := bytes.IndexByte(p, '\n')
		if err := b.Trailers.parseLine(p[:i-1]); err != nil {
			return err
		}
		p = p[i+1:]
	}
	for i := range b.Trailers.list {
		if forbiddenTrailer(&b.Trailers.list[i]) {
			return errTrailerForbidden
		}
	}
	return nil
}

// forbiddenTrailer names what a recipient that merges trailers into the header
// would misuse (RFC 9110 section 6.5.1): framing, routing, authentication, control.
func forbiddenTrailer(f *Field) bool {
	switch f.ID {
	case Other, Date, Server, XRequestID:
	default:
		return true
	}
	for _, name := range [...]string{
		"authorization", "cookie", "set-cookie", "content-type", "content-encoding", "content-range",
		"cache-control", "max-forwards", "range", "www-authenticate", "location", "age", "expires", "vary",
	} {
		if EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// Left is how many bytes of a body with a length have not been returned by Next;
// -1 for other bodies.
func (b *Body) Left() int64 {
	if b.framing != Length {
		return -1
	}
	return b.left
}

// UntilEnd reports whether the rest of the body is all that the source still sends
// (UntilClose), so that a caller may take it directly from the source.
func (b *Body) UntilEnd() bool { return b.framing == UntilClose }

// Took says that the caller took n bytes of the body directly from the source
// while nothing was buffered.
func (b *Body) Took(n int64) {
	if b.framing != Length {
		return
	}
	b.left -= n
	if b.left <= 0 {
		b.done = true
	}
}

// Finish says that the caller saw the end of the source, for UntilClose.
func (b *Body) Finish() {
	if b.framing == UntilClose {
		b.done = true
	}
}
