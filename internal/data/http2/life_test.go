package http2

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

var getRequest = http1.Request{Method: "GET", Path: "/", Authority: "example.com"}

var postRequest = http1.Request{Method: "POST", Path: "/", Authority: "example.com", Framing: http1.Chunked}

// open opens a stream with a request.
func open(t testing.TB, c *Client, q http1.Request, end bool) *Stream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteRequest(&q, "http", end); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDrain: a GOAWAY that names no stream, then one that does; what is open is served,
// what comes later is not, and then the connection ends.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	r := rawClient(t, Options{}, func(s *Stream) {
		<-release
		answerOK(s)
	})
	r.get(1)
	r.ping(1)
	r.cancel()
	if g := next[*xhttp2.GoAwayFrame](r); g.LastStreamID != maxStreamID || g.ErrCode != CodeNo {
		t.Errorf("first %v", g)
	}
	r.get(3) // was on its way
	p := next[*xhttp2.PingFrame](r)
	r.ok(r.WritePing(true, p.Data))
	if g := next[*xhttp2.GoAwayFrame](r); g.LastStreamID != 3 || g.ErrCode != CodeNo {
		t.Errorf("second %v", g)
	}
	r.get(5) // too late
	r.ping(2)
	close(release)
	got := map[uint32]bool{}
	for {
		f, err := r.ReadFrame()
		if err != nil {
			break
		}
		if d, ok := f.(*xhttp2.DataFrame); ok && d.StreamEnded() {
			got[d.StreamID] = true
		}
	}
	if !got[1] || !got[3] || got[5] {
		t.Errorf("served %v", got)
	}
	if err := <-r.served; err != nil {
		t.Error(err)
	}
}

// TestDrainOfASilentPeer: a peer that does not answer the PING is not waited for.
func TestDrainOfASilentPeer(t *testing.T) {
	r := rawClient(t, Options{}, answerOK)
	r.cancel()
	if err := <-r.served; err != nil {
		t.Error(err)
	}
}

func TestIdleTimeout(t *testing.T) {
	r := rawClient(t, Options{IdleTimeout: 10 * time.Millisecond}, answerOK)
	if g := next[*xhttp2.GoAwayFrame](r); g.ErrCode != CodeNo {
		t.Error(g)
	}
	if err := <-r.served; err != nil {
		t.Error(err)
	}
}

// TestDeadlineOfTheConnection ends Serve, also before the preface.
func TestDeadlineOfTheConnection(t *testing.T) {
	near, far := loopback(t)
	defer near.Close()
	_ = far.SetDeadline(longAgo)
	err := Serve(t.Context(), far, nil, Options{}, answerOK)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Error(err)
	}
}

func TestPreface(t *testing.T) {
	r := plainClient(t, Options{}, answerOK)
	r.must(io.WriteString(r.nc, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"))
	r.refused(CodeProtocol, "preface_invalid")
}

func TestFirstFrameIsSettings(t *testing.T) {
	r := plainClient(t, Options{}, answerOK)
	r.must(io.WriteString(r.nc, xhttp2.ClientPreface))
	r.ok(r.WritePing(false, [8]byte{}))
	r.refused(CodeProtocol, "settings_missing")
}

// TestPeerThatTakesNothing ends by WriteTimeout.
func TestPeerThatTakesNothing(t *testing.T) {
	near, far := net.Pipe() // has no buffer
	defer near.Close()
	err := Serve(t.Context(), far, nil, Options{WriteTimeout: time.Millisecond}, answerOK)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Error(err)
	}
}

// TestHeadTimeout: a preface, a header block or a frame that is begun must be completed;
// a connection that has begun none may wait.
func TestHeadTimeout(t *testing.T) {
	o := Options{HeadTimeout: 20 * time.Millisecond}
	settings := frames(1, func(f *xhttp2.Framer, _ int) { _ = f.WriteSettings() })
	block := frames(1, func(f *xhttp2.Framer, _ int) {
		_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
	})
	begin := append([]byte(xhttp2.ClientPreface), settings...)
	for name, sent := range map[string][]byte{
		"nothing": nil,
		"preface": []byte(xhttp2.ClientPreface),
		"block":   append(begin[:len(begin):len(begin)], block...),
		"frame":   append(begin[:len(begin):len(begin)], block[:len(block)-1]...),
	} {
		t.Run(name, func(t *testing.T) {
			r := plainClient(t, o, answerOK)
			r.must(r.nc.Write(sent))
			r.refused(CodeNo, "head_timeout")
		})
	}
}

// TestNoHeadNoTimeout: a connection on which nothing has begun may wait, and a block in two
// frames is a block. The time is the test's own, so that a busy machine is not too late.
func TestNoHeadNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{HeadTimeout: time.Second}
		near, far := bufferedPipe(t)
		r := clientOn(t, near, far, o, answerOK)
		r.must(io.WriteString(r.nc, xhttp2.ClientPreface))
		r.ok(r.WriteSettings())
		near, far = bufferedPipe(t)
		clientOn(t, near, far, o, answerOK)
		c, err := NewClient(near, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for stream := uint32(1); stream < 5; stream += 2 {
			r.ping(1)
			<-time.After(2 * o.HeadTimeout)
			r.ok(r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, EndStream: true, BlockFragment: r.fields(getFields...)}))
			<-time.After(o.HeadTimeout / 2)
			r.ok(r.WriteContinuation(stream, true, nil))
			next[*xhttp2.DataFrame](r)
		}
		if !c.Usable() {
			t.Errorf("the client has ended: %v", c.Err())
		}
	})
}

// TestSilentServer: a stream that is given up without a sign of the server makes the
// client look whether the server is there.
func TestSilentServer(t *testing.T) {
	give := func(c *Client) {
		s := open(t, c, getRequest, true)
		_ = s.SetDeadline(longAgo)
		s.Release()
	}
	synctest.Test(t, func(t *testing.T) {
		o := Options{PingTimeout: time.Second}
		near, far := bufferedPipe(t)
		r, c := serverOn(t, near, far, o)
		for { // the settings are acknowledged, so that nothing is on its way
			if f := next[*xhttp2.SettingsFrame](r); f.IsAck() {
				break
			}
		}
		give(c)
		p := next[*xhttp2.PingFrame](r)
		<-time.After(o.PingTimeout / 2)
		r.ok(r.WritePing(true, p.Data))
		<-time.After(o.PingTimeout)
		if !c.Usable() {
			t.Fatal("a server that answers was given up")
		}
		give(c)
		<-c.Done()
		if !errors.Is(c.Err(), ErrSilent) {
			t.Error(c.Err())
		}
	})
}

// TestInterrupt: SetDeadline interrupts each kind of wait, and zero resumes.
func TestInterrupt(t *testing.T) {
	r, c := rawServer(t, Options{}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	next[*xhttp2.SettingsFrame](r)
	s := open(t, c, getRequest, false)
	defer s.Release()
	next[*xhttp2.HeadersFrame](r)
	interrupted := func(what string, wait func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- wait() }()
		await(t, func() bool { // it waits
			if err := s.SetDeadline(longAgo); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if !errors.Is(err, ErrInterrupted) {
					t.Errorf("%s: %v", what, err)
				}
				return true
			default:
				return false
			}
		})
		_ = s.SetDeadline(time.Time{})
	}
	interrupted("window", func() error { return s.Write([]byte("x"), false) })
	var a http1.Response
	interrupted("head", func() error { return s.ReadResponse(&a) })
	r.headers(1, false, ":status", "200")
	if err := s.ReadResponse(&a); err != nil {
		t.Fatal(err)
	}
	interrupted("body", func() error { _, err := s.Next(); return err })
	r.ok(r.WriteData(1, true, []byte("rest")))
	if p, err := s.Next(); err != nil || string(p) != "rest" {
		t.Errorf("%q, %v", p, err)
	}
	if s.SetDeadline(time.Now().Add(time.Hour)) == nil {
		t.Error("a deadline in the future was taken")
	}
}

// TestPeerReset: the code is kept, and who waits is told.
func TestPeerReset(t *testing.T) {
	r, c := rawServer(t, Options{})
	s := open(t, c, getRequest, true)
	defer s.Release()
	next[*xhttp2.HeadersFrame](r)
	r.ok(r.WriteRSTStream(1, CodeHTTP11Required))
	var a http1.Response
	err := s.ReadResponse(&a)
	var reset *ResetError
	if !errors.As(err, &reset) || reset.Code != CodeHTTP11Required || reset.NotProcessed() {
		t.Error(err)
	}
	if code, ok := s.PeerReset(); !ok || code != CodeHTTP11Required || !s.Gone() {
		t.Error(code, ok)
	}
}

// TestGoAwayOfServer: streams that it leaves out may be sent again, others go on.
func TestGoAwayOfServer(t *testing.T) {
	r, c := rawServer(t, Options{})
	first, second := open(t, c, getRequest, true), open(t, c, getRequest, true)
	defer first.Release()
	defer second.Release()
	reserved, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer reserved.Release()
	next[*xhttp2.HeadersFrame](r)
	next[*xhttp2.HeadersFrame](r)
	r.ok(r.WriteGoAway(1, CodeNo, nil))
	var a http1.Response
	var reset *ResetError
	if err := second.ReadResponse(&a); !errors.As(err, &reset) || !reset.NotProcessed() {
		t.Error(err)
	}
	if _, err := c.Open(); err != ErrGoingAway || c.Usable() {
		t.Error(err)
	}
	if err := reserved.WriteRequest(&getRequest, "http", true); !errors.Is(err, ErrGoingAway) {
		t.Error(err)
	}
	r.headers(1, true, ":status", "200")
	if err := first.ReadResponse(&a); err != nil || a.Status != 200 {
		t.Error(a.Status, err)
	}
}

// TestCapacity follows SETTINGS_MAX_CONCURRENT_STREAMS, and Options.
func TestCapacity(t *testing.T) {
	for _, peer := range []uint32{2, 100} {
		r, c := rawServer(t, Options{MaxConcurrentStreams: 3}, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: peer})
		for { // our acknowledgement says that the setting is in force
			if f := next[*xhttp2.SettingsFrame](r); f.IsAck() {
				break
			}
		}
		var all []*Stream
		for {
			s, err := c.Open()
			if err == ErrNoCapacity {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		if len(all) != int(min(peer, 3)) || c.Active() != len(all) || !c.Usable() {
			t.Errorf("%d streams", len(all))
		}
		all[0].Release()
		s, err := c.Open()
		if err != nil {
			t.Error(err)
		}
		s.Release()
		for _, s := range all[1:] {
			s.Release()
		}
		c.Shutdown()
		<-c.Done()
		if c.Err() != nil {
			t.Error(c.Err())
		}
	}
}

// TestClientRecordsTheServersMistake: the stream, or the connection, says which rule.
func TestClientRecordsTheServersMistake(t *testing.T) {
	r, c := rawServer(t, Options{})
	s := open(t, c, getRequest, true)
	defer s.Release()
	next[*xhttp2.HeadersFrame](r)
	r.headers(1, false, ":status", "200", "connection", "close")
	var a http1.Response
	var e *Error
	if err := s.ReadResponse(&a); !errors.As(err, &e) || e.Rule != "connection_field" {
		t.Error(err)
	}
	if f := next[*xhttp2.RSTStreamFrame](r); f.ErrCode != CodeProtocol {
		t.Error(f)
	}
	r.ok(r.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 1}))
	<-c.Done()
	if !errors.As(c.Err(), &e) || e.Rule != "setting_invalid" {
		t.Error(c.Err())
	}
}

// TestInterimFlood: interim responses that nobody reads do not pile up.
func TestInterimFlood(t *testing.T) {
	r, c := rawServer(t, Options{})
	s := open(t, c, getRequest, true)
	defer s.Release()
	next[*xhttp2.HeadersFrame](r)
	for range maxHeads + 1 {
		r.headers(1, false, ":status", "103")
	}
	if f := next[*xhttp2.RSTStreamFrame](r); f.ErrCode != CodeCalm {
		t.Error(f)
	}
}

// TestCurl: a real client of another kind.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	s := startServer(t, Options{}, echo)
	out, err := exec.Command(curl, "-sS", "--http2-prior-knowledge", "-d", "some body", "-i", "http://"+s.addr+"/path").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "HTTP/2 200") || !strings.HasSuffix(string(out), "some body") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestH2load: many streams of a real client.
func TestH2load(t *testing.T) {
	h2load, err := exec.LookPath("h2load")
	if err != nil {
		t.Skip("no h2load")
	}
	s := startServer(t, Options{}, answer1K())
	out, err := exec.Command(h2load, "-n", "5000", "-c", "3", "-m", "50", "-T", "20", "http://"+s.addr+"/").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "5000 succeeded, 0 failed, 0 errored") {
		t.Errorf("%v: %s", err, out)
	}
}
