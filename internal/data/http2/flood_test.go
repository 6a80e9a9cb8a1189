package http2

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// untilGone is a handler that works until the stream ends early, and reads nothing.
func untilGone(s *Stream) {
	var q http1.Request
	if s.ReadRequest(&q) != nil {
		return
	}
	_ = s.WriteResponse(&http1.Response{Status: 200, Declared: -1}, false)
	for s.Write(make([]byte, 1000), false) == nil {
		continue
	}
}

// TestFloods: what makes work and moves nothing ends the connection.
func TestFloods(t *testing.T) {
	get := func(r *raw, stream uint32) []byte {
		block := append([]byte(nil), r.fields(getFields...)...)
		return frames(1, func(f *xhttp2.Framer, _ int) {
			_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, EndStream: true, EndHeaders: true, BlockFragment: block})
		})
	}
	for _, c := range []struct {
		rule string
		code Code
		send func(r *raw) []byte
	}{
		{"reset_flood", CodeCalm, func(r *raw) []byte { // CVE-2023-44487
			var b []byte
			for i := range 2000 {
				id := uint32(2*i + 1)
				b = append(b, get(r, id)...)
				b = append(b, frames(1, func(f *xhttp2.Framer, _ int) { _ = f.WriteRSTStream(id, CodeCancel) })...)
			}
			return b
		}},
		{"reset_flood", CodeCalm, func(r *raw) []byte { // the server is made to reset: CVE-2025-8671
			var b []byte
			for i := range 2000 {
				id := uint32(2*i + 1)
				b = append(b, get(r, id)...)
				b = append(b, frames(1, func(f *xhttp2.Framer, _ int) { _ = f.WriteWindowUpdate(id, 0) })...)
			}
			return b
		}},
		{"reset_flood", CodeCalm, func(r *raw) []byte { // malformed requests
			block := append([]byte(nil), r.fields(":method", "GET")...)
			return frames(2000, func(f *xhttp2.Framer, i int) {
				_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndStream: true, EndHeaders: true, BlockFragment: block})
			})
		}},
		{"reset_flood", CodeCalm, func(r *raw) []byte { // more streams than it may, again and again
			var b []byte
			for i := range 2000 {
				b = append(b, get(r, uint32(2*i+1))...)
			}
			return b
		}},
		{"continuation_flood", CodeCalm, func(r *raw) []byte { // CVE-2024-27316
			block := append([]byte(nil), r.fields(getFields...)...)
			return frames(2000, func(f *xhttp2.Framer, i int) {
				if i == 0 {
					_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
				} else {
					_ = f.WriteContinuation(1, false, nil)
				}
			})
		}},
		{"header_block_too_large", CodeCalm, func(r *raw) []byte {
			r.enc.SetMaxDynamicTableSize(0)
			block := append([]byte(nil), r.fields("x", strings.Repeat("v", 16000))...)
			return frames(20, func(f *xhttp2.Framer, i int) {
				if i == 0 {
					_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
				} else {
					_ = f.WriteContinuation(1, false, block)
				}
			})
		}},
		{"ping_flood", CodeCalm, func(*raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WritePing(false, [8]byte{}) })
		}},
		{"ping_flood", CodeCalm, func(*raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WritePing(true, [8]byte{}) })
		}},
		{"settings_flood", CodeCalm, func(*raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteSettings() })
		}},
		{"settings_flood", CodeCalm, func(*raw) []byte {
			return frames(1, func(f *xhttp2.Framer, _ int) {
				_ = f.WriteSettings(make([]xhttp2.Setting, 2000)...)
			})
		}},
		{"empty_data_flood", CodeCalm, func(r *raw) []byte {
			r.post(1)
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteData(1, false, nil) })
		}},
		{"empty_data_flood", CodeCalm, func(r *raw) []byte { // padding is no data
			r.post(1)
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteDataPadded(1, false, nil, make([]byte, 9)) })
		}},
		{"window_update_flood", CodeCalm, func(r *raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteWindowUpdate(0, 1) })
		}},
		{"priority_flood", CodeCalm, func(r *raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, i int) {
				_ = f.WritePriority(uint32(2*i+1), xhttp2.PriorityParam{StreamDep: 0})
			})
		}},
		{"ignored_frame_flood", CodeCalm, func(r *raw) []byte {
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteRawFrame(0xbe, 0, 0, nil) })
		}},
		{"ignored_frame_flood", CodeCalm, func(r *raw) []byte { // RST_STREAM of a stream that was reset
			r.post(1)
			return frames(10_000, func(f *xhttp2.Framer, _ int) { _ = f.WriteRSTStream(1, CodeCancel) })
		}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			o := Options{MaxConcurrentStreams: 100, Now: func() time.Duration { return 0 }}
			var running, most atomic.Int32
			r := rawClient(t, o, func(s *Stream) {
				n := running.Add(1)
				defer running.Add(-1)
				for {
					old := most.Load()
					if n <= old || most.CompareAndSwap(old, n) {
						break
					}
				}
				untilGone(s)
			})
			r.flood(c.send(r))
			r.refused(c.code, c.rule)
			if most.Load() > 200 {
				t.Errorf("%d handlers ran at a time", most.Load())
			}
		})
	}
}

// TestWorkIsForgiven: the same frames in the course of useful work are no flood.
func TestWorkIsForgiven(t *testing.T) {
	r := rawClient(t, Options{Now: func() time.Duration { return 0 }}, func(s *Stream) { answerOK(s) })
	for i := range 2000 {
		id := uint32(4*i + 1)
		r.get(id)
		r.ok(r.WritePriority(id, xhttp2.PriorityParam{Weight: 3}))
		for {
			if f := next[*xhttp2.DataFrame](r); f.StreamEnded() {
				break
			}
		}
		r.ok(r.WriteWindowUpdate(0, 6))
		r.headers(id+2, false, getFields...)
		r.ok(r.WriteRSTStream(id+2, CodeCancel))
	}
	r.ping(1)
}

// TestAnswersAreBounded: a peer that does not read cannot make answers pile up.
func TestAnswersAreBounded(t *testing.T) {
	c := newConn(nil, Options{}, false)
	c.flushing = true // and stays so: the peer does not read
	var e *Error
	for range maxControls + 1 {
		c.mu.Lock()
		c.frame(xhttp2.FramePing, xhttp2.FlagPingAck, 0, make([]byte, 8))
		e = c.answer()
		c.mu.Unlock()
	}
	if e == nil || e.Rule != "control_queue" || e.Code != CodeCalm {
		t.Errorf("got %v", e)
	}
	if len(c.out) > 32<<10 {
		t.Errorf("%d bytes of answers", len(c.out))
	}
}

// TestOutputIsBounded: many streams with much to say to a peer that does not read.
func TestOutputIsBounded(t *testing.T) {
	var c atomic.Pointer[conn]
	var waiting atomic.Int32
	r := rawClient(t, Options{}, func(s *Stream) {
		c.Store(s.c)
		var q http1.Request
		_ = s.ReadRequest(&q)
		waiting.Add(1)
		_ = s.WriteResponse(&http1.Response{Status: 200, Declared: -1}, false)
		for s.Write(make([]byte, 100_000), false) == nil {
			continue
		}
	})
	r.ok(r.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: maxWindow}))
	r.ok(r.WriteWindowUpdate(0, maxWindow-initialWindow))
	for i := range 100 {
		r.get(uint32(2*i + 1))
	}
	// They fill the kernel's buffers, then the connection's, then all wait.
	await(t, func() bool {
		x := c.Load()
		if x == nil || waiting.Load() < 100 {
			return false
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.out) > outputBound+frameHeader {
			t.Errorf("%d bytes wait to be written", len(x.out))
		}
		n := 0
		for s := x.bodies.first; s != nil; s = s.next {
			n++
		}
		for s := x.heads.first; s != nil; s = s.next {
			n++
		}
		return n == 100 && x.spare() <= 0
	})
}

// await waits for a condition.
func await(t testing.TB, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the condition did not come true")
		}
	}
}

// TestHPACKBomb: a block that is small and decodes to much. It is refused by an answer,
// and the connection stays usable: the tables agree.
func TestHPACKBomb(t *testing.T) {
	r := rawClient(t, Options{}, echo)
	r.get(1)
	f := next[*xhttp2.HeadersFrame](r)
	if r.list(f)[":status"] != "200" {
		t.Fatal("no answer")
	}
	nv := append([]string(nil), getFields...)
	for range 90 {
		nv = append(nv, "x-bomb", strings.Repeat("b", 3000)) // one entry of the table, then an index each
	}
	r.headers(3, true, nv...)
	f = next[*xhttp2.HeadersFrame](r)
	if got := r.list(f)[":status"]; got != "431" || f.StreamID != 3 {
		t.Errorf("stream %d: status %s", f.StreamID, got)
	}
	nv = nv[:len(getFields)]
	for range 200 {
		nv = append(nv, "x-many", "m")
	}
	r.headers(5, true, nv...)
	if got := r.list(next[*xhttp2.HeadersFrame](r))[":status"]; got != "431" {
		t.Errorf("status %s", got)
	}
	r.headers(7, true, append(getFields, "x-bomb", strings.Repeat("b", 3000))...)
	if got := r.list(next[*xhttp2.HeadersFrame](r))[":status"]; got != "200" {
		t.Errorf("status %s", got)
	}
}

// TestRefusedBlocksKeepTablesInStep: header blocks of streams that are refused are decoded.
func TestRefusedBlocksKeepTablesInStep(t *testing.T) {
	release := make(chan struct{})
	r := rawClient(t, Options{MaxConcurrentStreams: 1}, func(s *Stream) {
		var q http1.Request
		_ = s.ReadRequest(&q)
		if q.Path == "/slow" {
			<-release
		}
		a := http1.Response{Status: 200, Declared: -1}
		v, _ := q.Fields.Get("x-new")
		a.Fields.Add("x-new", v)
		_ = s.WriteResponse(&a, true)
	})
	r.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/slow")
	r.headers(3, true, append(getFields, "x-new", "value")...)
	if f := next[*xhttp2.RSTStreamFrame](r); f.StreamID != 3 || f.ErrCode != CodeRefusedStream {
		t.Errorf("got %v", f)
	}
	close(release)
	next[*xhttp2.HeadersFrame](r)
	r.headers(5, true, append(getFields, "x-new", "value")...)
	f := next[*xhttp2.HeadersFrame](r)
	if got := r.list(f)["x-new"]; f.StreamID != 5 || got != "value" {
		t.Errorf("stream %d has %q", f.StreamID, got)
	}
}

// TestHandlersAreBounded: streams that were reset count while their handlers run.
func TestHandlersAreBounded(t *testing.T) {
	block := make(chan struct{})
	var running atomic.Int32
	r := rawClient(t, Options{MaxConcurrentStreams: 10}, func(s *Stream) {
		running.Add(1)
		<-block
	})
	for i := range 50 {
		r.get(uint32(2*i + 1))
		r.ok(r.WriteRSTStream(uint32(2*i+1), CodeCancel))
	}
	r.ping(1)
	await(t, func() bool { return running.Load() == 20 })
	close(block)
}

// TestBodiesAreBounded: a peer may send no more than the windows.
func TestBodiesAreBounded(t *testing.T) {
	read := make(chan struct{})
	r := rawClient(t, Options{StreamWindow: initialWindow, ConnWindow: initialWindow}, func(s *Stream) {
		var q http1.Request
		_ = s.ReadRequest(&q)
		<-read
		_, _ = io.Copy(io.Discard, reader{s})
	})
	defer close(read)
	r.post(1)
	for range 4 {
		r.ok(r.WriteData(1, false, make([]byte, 16_000)))
	}
	r.ping(1)
	r.flood(frames(1, func(f *xhttp2.Framer, _ int) { _ = f.WriteData(1, false, make([]byte, 16_000)) }))
	if f := next[*xhttp2.GoAwayFrame](r); f.ErrCode != CodeFlowControl || string(f.DebugData()) != "connection_window_exceeded" {
		t.Errorf("%v %s", f.ErrCode, f.DebugData())
	}
}

// reader reads a stream's body.
type reader struct{ s *Stream }

func (r reader) Read(p []byte) (int, error) {
	b, err := r.s.Next()
	if err != nil {
		return 0, err
	}
	if len(b) > len(p) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, b), nil
}

// TestStreamWindow: only the stream that goes over its window is reset.
func TestStreamWindow(t *testing.T) {
	r := rawClient(t, Options{StreamWindow: initialWindow}, func(s *Stream) {
		var q http1.Request
		_ = s.ReadRequest(&q)
		if q.Method == "GET" {
			_ = s.WriteResponse(&http1.Response{Status: 204}, true)
			return
		}
		_ = s.SetDeadline(time.Time{})
		for !s.Gone() {
			var r http1.Response
			_ = r
			if s.Write(make([]byte, 70_000), false) != nil { // waits for a window until it is gone
				return
			}
		}
	})
	r.post(1)
	for range 5 {
		r.ok(r.WriteData(1, false, make([]byte, 16_000)))
	}
	if f := next[*xhttp2.RSTStreamFrame](r); f.StreamID != 1 || f.ErrCode != CodeFlowControl {
		t.Errorf("got %v", f)
	}
	r.get(3)
	if f := next[*xhttp2.HeadersFrame](r); f.StreamID != 3 {
		t.Errorf("got %v", f)
	}
}
