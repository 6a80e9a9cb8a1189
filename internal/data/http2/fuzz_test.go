package http2

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// script is a connection whose peer sends fixed bytes and reads whatever comes.
type script struct {
	mu     sync.Mutex
	in     []byte
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.in) == 0 || s.closed {
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	return len(p), nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// seedFrames are some orderly bytes of a client, and of a server when it is not.
func seedFrames(client bool) []byte {
	var block []byte
	e := newEncoder()
	if client {
		q := http1.Request{Method: "POST", Path: "/", Authority: "example.com"}
		block = e.request(nil, &q, "http")
	} else {
		block = e.status(nil, 200)
	}
	return frames(1, func(f *xhttp2.Framer, _ int) {
		_ = f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 100})
		_ = f.WriteSettingsAck()
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
		_ = f.WriteContinuation(1, true, block[1:])
		_ = f.WriteDataPadded(1, false, []byte("body"), make([]byte, 3))
		_ = f.WriteWindowUpdate(1, 1000)
		_ = f.WritePing(false, [8]byte{})
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: e.field(nil, "x-trailer", "t", false)})
		_ = f.WritePriority(3, xhttp2.PriorityParam{StreamDep: 1})
		_ = f.WriteRSTStream(1, CodeCancel)
		_ = f.WriteGoAway(1, CodeNo, nil)
	})
}

// FuzzServe: whatever bytes come, Serve ends when they do, with all handlers.
func FuzzServe(f *testing.F) {
	f.Add(seedFrames(true))
	f.Fuzz(func(t *testing.T, in []byte) {
		nc := &script{in: append([]byte(xhttp2.ClientPreface), in...)}
		_ = Serve(context.Background(), nc, nil, Options{MaxConcurrentStreams: 3, ExtendedConnect: true, StreamWindow: initialWindow}, echo)
	})
}

// FuzzClient: whatever a server sends, the client ends when it does.
func FuzzClient(f *testing.F) {
	f.Add(seedFrames(false))
	f.Fuzz(func(t *testing.T, in []byte) {
		gate := make(chan struct{})
		c, err := NewClient(&gated{script: script{in: in}, gate: gate}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		q := http1.Request{Method: "GET", Path: "/", Authority: "example.com"}
		if err := s.WriteRequest(&q, "http", true); err != nil {
			t.Fatal(err)
		}
		close(gate)
		var r http1.Response
		for s.ReadResponse(&r) == nil {
			if r.Status < 100 || r.Status > 599 {
				t.Fatalf("status %d", r.Status)
			}
		}
		for {
			if _, err := s.Next(); err != nil {
				break
			}
		}
	})
}

// gated sends nothing before the gate opens.
type gated struct {
	script
	gate chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.gate
	return g.script.Read(p)
}

// FuzzRequestHead: what is accepted is what http1 accepts when it is written as HTTP/1.1.
func FuzzRequestHead(f *testing.F) {
	f.Add(getLines+"x: y\n", true)
	f.Add(":method: POST\n:scheme: https\n:authority: [::1]:8443\n:path: /a?b\ncontent-length: 3\ncookie: a\ncookie: b\n", false)
	f.Fuzz(func(t *testing.T, lines string, end bool) {
		var q http1.Request
		if decoded(blockRequest, end, lines).request(&q, false) != nil || q.Method == "PRI" {
			return
		}
		var out []byte
		out = http1.AppendRequestLine(out, q.Method, q.Target)
		out = http1.AppendField(out, "host", q.Authority)
		q.Fields.RemoveKnown(http1.Host)
		out = q.Fields.Append(out)
		if q.Framing == http1.Chunked {
			out = http1.AppendField(out, "transfer-encoding", "chunked")
		}
		out = append(out, "\r\n"...)
		var again http1.Request
		// Limits are counted otherwise there.
		limits := http1.Limits{HeaderBytes: 1 << 20, Fields: 1000, RequestLine: 1 << 20}
		if err := http1.NewReader(strings.NewReader(string(out)), &http1.Pool{}, limits).ReadRequest(&again); err != nil {
			t.Fatalf("http1 refuses %q: %v", out, err)
		}
		if again.Method != q.Method || again.Path != q.Path || again.Authority != q.Authority || again.Framing != q.Framing && q.Length > 0 || again.Length != q.Length {
			t.Fatalf("%+v became %+v", q, again)
		}
	})
}

// FuzzEncoder: x/net's decoder reads back what the encoder writes.
func FuzzEncoder(f *testing.F) {
	f.Add("a: b\na: b\na: b\n", uint16(4096))
	f.Fuzz(func(t *testing.T, lines string, table uint16) {
		e := newEncoder()
		e.setMax(uint32(table))
		var got, want []string
		d := hpack.NewDecoder(encoderTable, func(f hpack.HeaderField) { got = append(got, f.Name+": "+f.Value+"\n") })
		d.SetAllowedMaxDynamicTableSize(uint32(table))
		for range 3 {
			block := e.begin(nil)
			for line := range strings.Lines(lines) {
				name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
				if ok {
					block = e.field(block, name, value, false)
					want = append(want, name+": "+value+"\n")
				}
			}
			if _, err := d.Write(block); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Join(got, "") != strings.Join(want, "") {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
