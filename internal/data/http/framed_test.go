package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framed is one end of an HTTP/2 connection that sends frames by hand.
type framed struct {
	t testing.TB
	net.Conn
	*xhttp2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder
}

func newFramed(t testing.TB, c net.Conn, r io.Reader) *framed {
	f := &framed{t: t, Conn: c, Framer: xhttp2.NewFramer(c, r), dec: hpack.NewDecoder(4096, nil)}
	f.SetReuseFrames()
	f.enc = hpack.NewEncoder(&f.block)
	return f
}

// dial2 opens an HTTP/2 connection to the world.
func (w *world) dial2() *framed {
	c := w.dial()
	f := newFramed(w.t, c, c)
	if _, err := io.WriteString(c, xhttp2.ClientPreface); err != nil {
		w.t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// head sends a header block with fields "name", "value", ...
func (f *framed) head(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end}); err != nil {
		f.t.Error(err)
	}
}

// get sends a GET for example.com.
func (f *framed) get(stream uint32, fields ...string) {
	f.head(stream, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", "/"}, fields...)...)
}

// until reads frames until one in words has the prefix: "HEADERS 1 :status=200 ...",
// "DATA 1 text", "RST_STREAM 1 CODE", "GOAWAY CODE". PINGs and SETTINGS are answered.
func (f *framed) until(prefix string) string {
	f.t.Helper()
	var seen []string
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Errorf("%v instead of %q, after %q", err, prefix, seen)
			return ""
		}
		text := f.words(fr)
		if strings.HasPrefix(text, prefix) {
			return text
		}
		seen = append(seen, text)
	}
}

func (f *framed) words(fr xhttp2.Frame) string {
	id := fr.Header().StreamID
	switch fr := fr.(type) {
	case *xhttp2.HeadersFrame:
		fields, err := f.dec.DecodeFull(fr.HeaderBlockFragment())
		text := fmt.Sprintf("HEADERS %d", id)
		for _, h := range fields {
			text += " " + h.Name + "=" + h.Value
		}
		if fr.StreamEnded() {
			text += " END"
		}
		if err != nil {
			text += err.Error()
		}
		return text
	case *xhttp2.DataFrame:
		return fmt.Sprintf("DATA %d %s", id, fr.Data())
	case *xhttp2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %s", id, fr.ErrCode)
	case *xhttp2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %s", fr.ErrCode)
	case *xhttp2.SettingsFrame:
		if !fr.IsAck() {
			_ = f.WriteSettingsAck()
		}
	case *xhttp2.PingFrame:
		if !fr.IsAck() {
			_ = f.WritePing(true, fr.Data)
		}
	}
	return fr.Header().Type.String()
}

// origin2 is an HTTP/2 server of one's own: the script has the preface read.
func origin2(t testing.TB, settings []xhttp2.Setting, script func(n int, f *framed)) *origin {
	return newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
		if _, err := io.CopyN(io.Discard, r, int64(len(xhttp2.ClientPreface))); err != nil {
			return
		}
		f := newFramed(t, c, r)
		if f.WriteSettings(settings...) == nil {
			script(n, f)
		}
	})
}

// requests reads frames and calls serve for each head of a request, until the end.
func (f *framed) requests(serve func(stream uint32, head string)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		if text := f.words(fr); strings.HasPrefix(text, "HEADERS") {
			serve(fr.Header().StreamID, text)
		}
	}
}

// requests2 is requests without looking into the heads.
func (f *framed) requests2(serve func(stream uint32)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *xhttp2.HeadersFrame:
			serve(fr.StreamID)
		default:
			_ = f.words(fr)
		}
	}
}

func http2World(t *testing.T, o *origin) *world {
	w := newWorld(t, o.addr)
	w.speak(2)
	w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
	return w
}

// echo sends back the bytes of tunnels, and says "bye" at their end. Other frames are
// for answer, in words.
func (f *framed) echo(answer func(stream uint32, text string)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		d, ok := fr.(*xhttp2.DataFrame)
		if !ok {
			answer(fr.Header().StreamID, f.words(fr))
			continue
		}
		if len(d.Data()) > 0 {
			_ = f.WriteData(d.StreamID, false, d.Data())
		}
		if d.StreamEnded() {
			_ = f.WriteData(d.StreamID, true, []byte("bye"))
		}
	}
}
