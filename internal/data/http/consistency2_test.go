package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// wholly is all of a request that two parsers must agree on. Fields and trailers are
// "name: value", the names in lower case, sorted.
type wholly struct {
	onWire
	fields, trailers []string
}

// agrees compares what they read with what we read. golang.org/x/net/http2 tells only
// those trailers that were announced.
func (theirs *wholly) agrees(ours *wholly, version int) bool {
	trailers := slices.Equal(theirs.trailers, ours.trailers)
	if version == 2 {
		trailers = !slices.ContainsFunc(theirs.trailers, func(l string) bool { return !slices.Contains(ours.trailers, l) })
	}
	return trailers && theirs.onWire == ours.onWire && slices.Equal(theirs.fields, ours.fields)
}

// eared is an upstream's end of a connection that keeps what it reads.
type eared struct {
	net.Conn
	heard bytes.Buffer
}

func (c *eared) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Write(p[:n])
	return n, err
}

// listeners dials servers of golang.org/x/net/http2 or net/http's reader, which tell what
// they read.
type listeners struct {
	version int
	serving sync.WaitGroup
	mu      sync.Mutex
	conns   []*eared
	theirs  []wholly
	refused error
}

func (d *listeners) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	c := &eared{Conn: far}
	d.mu.Lock()
	d.conns = append(d.conns, c)
	d.mu.Unlock()
	d.serving.Go(func() {
		defer far.Close()
		if d.version == 2 {
			//lint:ignore SA1019 net/http's server wants a listener, this one a connection
			new(xhttp2.Server).ServeConn(c, &xhttp2.ServeConnOpts{Handler: nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) { _ = d.hear(r) })})
			return
		}
		for r := bufio.NewReader(c); ; {
			q, err := nethttp.ReadRequest(r)
			if err == nil {
				err = d.hear(q)
			}
			if err != nil {
				d.mu.Lock()
				d.refused = err
				d.mu.Unlock()
				return
			}
			if _, err := io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
		}
	})
	return near, nil
}

// hear notes a request as net/http has it.
func (d *listeners) hear(r *nethttp.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	w := wholly{onWire{r.Method, r.RequestURI, strings.ToLower(r.Host), string(body)}, linesOf(r.Header), linesOf(r.Trailer)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.theirs = append(d.theirs, w)
	return nil
}

// linesOf leaves out what is framing, and not kept as a field by both parsers.
func linesOf(h nethttp.Header) (lines []string) {
	for name, values := range h {
		for _, v := range values {
			lines = append(lines, strings.ToLower(name)+": "+v)
		}
	}
	return sortedLines(lines)
}

func sortedLines(lines []string) []string {
	lines = slices.DeleteFunc(lines, func(l string) bool {
		name, _, _ := strings.Cut(l, ":")
		return slices.Contains([]string{"host", "content-length", "transfer-encoding", "trailer", "connection", "te", "expect"}, name)
	})
	slices.Sort(lines)
	return lines
}

func linesOfFields(f *http1.Fields) (lines []string) {
	for name, v := range f.All {
		lines = append(lines, strings.Clone(strings.ToLower(name)+": "+v))
	}
	return sortedLines(lines)
}

// ours is what our own codecs read of what the servers got.
func (d *listeners) ours(t *testing.T) (all []wholly) {
	for _, c := range d.conns {
		if d.version == 2 {
			all = append(all, ours2(c.heard.Bytes())...)
			continue
		}
		r := http1.NewReader(bytes.NewReader(c.heard.Bytes()), new(http1.Pool), http1.Limits{Fields: 1000, HeaderBytes: 1 << 20, RequestLine: 1 << 20})
		for {
			var q http1.Request
			if err := r.ReadRequest(&q); err != nil {
				if !errors.Is(err, http1.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("we refuse what we forwarded: %v: %q", err, c.heard.Bytes())
				}
				break
			}
			var body http1.Body
			body.Start(r, q.Framing, q.Length, true)
			w := wholly{onWire: onWire{method: q.Method, target: q.Target, host: strings.ToLower(q.Authority)}, fields: linesOfFields(&q.Fields)}
			var err error
			w.body, err = bodyOf(&body)
			if err != nil {
				break // not whole
			}
			w.trailers = linesOfFields(&body.Trailers)
			w.method, w.target, w.host = strings.Clone(w.method), strings.Clone(w.target), strings.Clone(w.host)
			all = append(all, w)
			r.Release()
		}
	}
	return all
}

func bodyOf(b interface{ Next() ([]byte, error) }) (string, error) {
	var s strings.Builder
	for {
		p, err := b.Next()
		s.Write(p)
		if err == io.EOF {
			return s.String(), nil
		}
		if err != nil {
			return s.String(), err
		}
	}
}

// ours2 plays a client's bytes to our own server.
func ours2(raw []byte) (all []wholly) {
	var mu sync.Mutex
	workers := new(http2.Workers)
	_ = http2.Serve(context.Background(), &tape{in: raw, step: 1 << 20}, nil, http2.Options{Workers: workers,
		Limits: http1.Limits{Fields: 1000, HeaderBytes: 1 << 20, RequestLine: 1 << 20}}, func(s *http2.Stream) {
		var q http1.Request
		if s.ReadRequest(&q) != nil {
			return
		}
		w := wholly{onWire: onWire{method: strings.Clone(q.Method), target: strings.Clone(q.Target), host: strings.ToLower(strings.Clone(q.Authority))}, fields: linesOfFields(&q.Fields)}
		var err error
		if w.body, err = bodyOf(s); err != nil {
			return
		}
		w.trailers = linesOfFields(s.Trailers())
		_ = s.WriteResponse(&http1.Response{Status: 200, Declared: -1}, true)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, w)
	})
	workers.Close()
	return all
}

// sending is a request that a client sends.
type sending struct{ method, authority, path, fields, body, trailers string }

// pairs splits "name: value" lines.
func pairs(lines string) (out []string) {
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		out = append(out, name, value)
	}
	return out
}

// send2 sends over HTTP/2 and waits for the end of the answer.
func (s *sending) send2(t *testing.T, c net.Conn) {
	var b bytes.Buffer
	b.WriteString(xhttp2.ClientPreface)
	f := newFramed(t, c, c)
	f.Framer = xhttp2.NewFramer(&b, c)
	_ = f.WriteSettings()
	end := s.body == "" && s.trailers == ""
	f.head(1, end, append([]string{":method", s.method, ":scheme", "http", ":authority", s.authority, ":path", s.path}, pairs(s.fields)...)...)
	if !end {
		_ = f.WriteData(1, s.trailers == "", []byte(s.body))
	}
	if s.trailers != "" {
		f.head(1, true, pairs(s.trailers)...)
	}
	go func() { _, _ = c.Write(b.Bytes()) }()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *xhttp2.RSTStreamFrame, *xhttp2.GoAwayFrame:
			return
		case *xhttp2.HeadersFrame:
			if fr.StreamEnded() {
				return
			}
		case *xhttp2.DataFrame:
			if fr.StreamEnded() {
				return
			}
		}
	}
}

// raw1 is the request in HTTP/1.1.
func (s *sending) raw1() []byte {
	raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", s.method, s.path, s.authority)
	raw += strings.ReplaceAll(s.fields, "\n", "\r\n")
	if s.body == "" && s.trailers == "" {
		return []byte(raw + "\r\n")
	}
	raw += "Transfer-Encoding: chunked\r\n\r\n"
	if s.body != "" {
		raw += fmt.Sprintf("%x\r\n%s\r\n", len(s.body), s.body)
	}
	return []byte(raw + "0\r\n" + strings.ReplaceAll(s.trailers, "\n", "\r\n") + "\r\n")
}

// FuzzForwardVersions sends a request through the whole handler, over each pairing of
// versions with HTTP/2 in it. What goes upstream must be read alike by net/http or
// golang.org/x/net/http2 and by our own codec: method, path, authority, fields, body and
// trailers. Over HTTP/2, where one stream is one request, it must be what was sent.
func FuzzForwardVersions(f *testing.F) {
	for pairing := range uint8(3) {
		f.Add(pairing, "GET", "a", "/", "", "", "")
		f.Add(pairing, "POST", "a:80", "/b?c#d", "x: y\ncookie: a=b\ncookie: c=d\n", "abc", "x-t: u\n")
		f.Add(pairing, "PUT", "[::1]:8080", "/\xc3\xa9", "te: trailers\ntrailer: x-t\nexpect: 100-continue\n", "abc", "x-t: u\n")
		f.Add(pairing, "OPTIONS", "a", "*", "content-length: 3\n", "abc", "")
		f.Add(pairing, "CONNECT", "a:443", "", "", "", "")
		f.Add(pairing, "HEAD", "a", "//b/../c", "host: a\nupgrade: h2c\nhttp2-settings: x\n", "", "")
	}
	servers := [3]*listeners{{version: 1}, {version: 2}, {version: 2}}
	var handlers [3]*Handler
	var conns [3]func(net.Conn) *Conn
	for i, d := range servers {
		protocol := resource.UpstreamHTTP1
		if d.version == 2 {
			protocol = resource.UpstreamHTTP2
		}
		handlers[i], conns[i] = everywhere(f, protocol, d)
	}
	f.Fuzz(func(t *testing.T, pairing uint8, method, authority, path, fields, body, trailers string) {
		pairing %= 3 // HTTP/2 to 1, 2 to 2, 1 to 2
		s := &sending{method, authority, path, fields, body, trailers}
		if len(body) > 8<<10 || len(fields) > 8<<10 || len(trailers) > 4<<10 || len(path) > 4<<10 {
			return
		}
		d, h := servers[pairing], handlers[pairing]
		d.conns, d.theirs, d.refused = nil, nil, nil
		if pairing == 2 {
			h.Serve(context.Background(), conns[pairing](&tape{in: s.raw1(), step: 4096}))
		} else {
			near, far := net.Pipe()
			_ = near.SetDeadline(time.Now().Add(patient))
			var served sync.WaitGroup
			served.Go(func() {
				defer far.Close()
				h.Serve(context.Background(), conns[pairing](far))
			})
			s.send2(t, near)
			_ = near.Close()
			served.Wait()
		}
		h.Close()
		d.serving.Wait()
		d.compare(t, s, pairing != 2)
	})
}

// compare is what FuzzForwardVersions wants of what the servers got.
func (d *listeners) compare(t *testing.T, s *sending, once bool) {
	t.Helper()
	ours := d.ours(t)
	for i := range d.theirs {
		if i >= len(ours) || !d.theirs[i].agrees(&ours[i], d.version) {
			t.Fatalf("their request %d: %q\nours: %q", i, d.theirs[i], ours)
		}
	}
	for _, w := range ours[len(d.theirs):] {
		if _, err := url.ParseRequestURI(w.target); err == nil && (d.refused == nil || !theirsRefuse(d.refused)) {
			t.Fatalf("they did not read %q: %v", w, d.refused)
		}
	}
	if !once {
		return
	}
	if len(ours) > 1 {
		t.Fatalf("one request became %q", ours)
	}
	for _, w := range ours {
		target, err := http1.CleanPath(s.method, s.path)
		if err != nil || w.onWire != (onWire{s.method, target, strings.ToLower(s.authority), s.body}) {
			t.Fatalf("sent %q, forwarded %q", s, w)
		}
		for _, l := range w.trailers {
			if name, value, _ := strings.Cut(l, ": "); !slices.Contains(pairs(s.trailers), name) || !slices.Contains(pairs(s.trailers), value) {
				t.Fatalf("sent trailers %q, forwarded %q", s.trailers, w.trailers)
			}
		}
	}
}
