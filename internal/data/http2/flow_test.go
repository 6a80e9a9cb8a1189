package http2

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// flowModel is what a peer knows about the windows that it gave.
type flowModel struct {
	mu      sync.Mutex
	changed sync.Cond
	conn    int64            // what all streams may still send
	initial int64            // of new streams
	smaller []int64          // initial windows on their way, by SETTINGS frame; -1: larger, taken at once
	left    map[uint32]int64 // what each stream may still send
	got     map[uint32]int
	ended   int
	pongs   int
	over    bool // nothing more is read
	wrong   string
}

// received counts a DATA frame.
func (m *flowModel) received(f *xhttp2.DataFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changed.Broadcast()
	n := int64(len(f.Data()))
	m.conn -= n
	m.left[f.StreamID] -= n
	if n > 0 && (m.conn < 0 || m.left[f.StreamID] < 0) {
		m.wrong = "more was sent than the windows allow"
	}
	for _, b := range f.Data() {
		if b != pattern(m.got[f.StreamID]) {
			m.wrong = "a body is not what was written"
		}
		m.got[f.StreamID]++
	}
	if f.StreamEnded() {
		m.ended++
	}
}

// acknowledged: a smaller initial window is in force from now on.
func (m *flowModel) acknowledged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changed.Broadcast()
	if len(m.smaller) == 0 {
		return
	}
	v := m.smaller[0]
	m.smaller = m.smaller[1:]
	if v >= 0 {
		for id := range m.left {
			m.left[id] += v - m.initial
		}
		m.initial = v
	}
}

func pattern(i int) byte { return byte(i % 251) }

// FuzzFlowControl: whatever windows a peer gives and takes, it never gets more than it
// gave, and in the end everything.
func FuzzFlowControl(f *testing.F) {
	f.Add([]byte{3, 200, 0, 10, 1, 255, 2, 100, 3, 0, 0, 255, 1, 1, 3, 255})
	f.Add([]byte{8, 9, 7, 200, 11, 9, 10, 40, 15, 99})
	f.Add([]byte{3, 0, 2, 255, 3, 255, 3, 1, 3, 255, 1, 200})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 100 {
			return
		}
		runFlow(t, steps)
	})
}

const flowStreams, flowBody = 3, 90_000

func runFlow(t *testing.T, steps []byte) {
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), far, nil, Options{}, func(s *Stream) {
			var q http1.Request
			_ = s.ReadRequest(&q)
			body := make([]byte, flowBody)
			for i := range body {
				body[i] = pattern(i)
			}
			if s.WriteResponse(&http1.Response{Status: 200, Declared: -1}, false) == nil {
				_ = s.Write(body, true)
			}
		})
	}()
	m := &flowModel{conn: initialWindow, initial: initialWindow, left: map[uint32]int64{}, got: map[uint32]int{}}
	m.changed.L = &m.mu
	r := newRaw(t, near)
	var out bytes.Buffer // net.Pipe has none: what is sent must not wait for what is read
	w := xhttp2.NewFramer(&out, nil)
	out.WriteString(xhttp2.ClientPreface)
	_ = w.WriteSettings()
	m.smaller = append(m.smaller, -1)
	for i := range flowStreams {
		id := uint32(2*i + 1)
		m.left[id] = m.initial
		_ = w.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: r.fields(getFields...)})
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer m.set(func() { m.over = true })
		for m.ended < flowStreams {
			f, err := r.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *xhttp2.DataFrame:
				m.received(f)
			case *xhttp2.SettingsFrame:
				if f.IsAck() {
					m.acknowledged()
				}
			case *xhttp2.PingFrame:
				m.set(func() { m.pongs++ })
			case *xhttp2.GoAwayFrame:
				m.set(func() { m.wrong = "GOAWAY: " + string(f.DebugData()) })
				return
			}
		}
	}()
	send := func() {
		_, _ = io.Copy(near, &out)
		out.Reset()
	}
	send()
	for i := 0; i+1 < len(steps); i += 2 {
		m.step(w, steps[i], int64(steps[i+1]))
		if send(); steps[i]&8 != 0 {
			m.exhaust(w, send)
		}
	}
	m.exhaust(w, send)
	m.settle(w, send)
	<-finished
	near.Close()
	<-served
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.left {
		if m.got[id] != flowBody {
			m.wrong += " a body did not come whole"
		}
	}
	if m.wrong != "" {
		t.Error(m.wrong)
	}
}

func (m *flowModel) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	m.changed.Broadcast()
}

// exhaust waits until all that the windows allow was sent, and looks that no more is.
func (m *flowModel) exhaust(w *xhttp2.Framer, send func()) {
	m.mu.Lock()
	for !m.over && (len(m.smaller) > 0 || m.more()) {
		m.changed.Wait()
	}
	pongs := m.pongs
	_ = w.WritePing(false, [8]byte{})
	m.mu.Unlock()
	send()
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.over && m.pongs == pongs {
		m.changed.Wait()
	}
}

// more reports whether a server still has something that it may send.
func (m *flowModel) more() bool {
	if m.conn <= 0 {
		return false
	}
	for id, left := range m.left {
		if left > 0 && m.got[id] < flowBody {
			return true
		}
	}
	return false
}

// step changes a window as a byte says.
func (m *flowModel) step(w *xhttp2.Framer, what byte, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch id := uint32(2*(what%4) + 1); {
	case what%4 < flowStreams && n > 0:
		m.left[id] += n * n
		_ = w.WriteWindowUpdate(id, uint32(n*n))
	case what%4 == flowStreams && what&4 != 0 && n > 0:
		m.conn += n * n
		_ = w.WriteWindowUpdate(0, uint32(n*n))
	case what%4 == flowStreams && len(m.smaller) == 0: // one change at a time
		m.resize(w, n*n)
	}
}

// resize changes the initial window: a larger one may be used at once, a smaller one is
// in force when it is acknowledged.
func (m *flowModel) resize(w *xhttp2.Framer, v int64) {
	if v >= m.initial {
		for id := range m.left {
			m.left[id] += v - m.initial
		}
		m.initial = v
		m.smaller = append(m.smaller, -1)
	} else {
		m.smaller = append(m.smaller, v)
	}
	_ = w.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: uint32(v)})
}

// settle gives enough for everything.
func (m *flowModel) settle(w *xhttp2.Framer, send func()) {
	m.mu.Lock()
	for id := range m.left {
		m.left[id] += 1 << 20
		_ = w.WriteWindowUpdate(id, 1<<20)
	}
	m.conn += 1 << 20
	_ = w.WriteWindowUpdate(0, 1<<20)
	m.mu.Unlock()
	send()
}
