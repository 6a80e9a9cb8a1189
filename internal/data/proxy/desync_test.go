package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http1/http1test"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// forwarded is a request that an upstream got, as net/http and our own parser read it.
type forwarded struct{ theirs, ours string }

// recording is an upstream that tells what it gets.
func recording(t *testing.T, got chan<- forwarded) string {
	return serve(t, func(c *net.TCPConn) {
		var raw bytes.Buffer
		for r := bufio.NewReader(io.TeeReader(c, &raw)); ; {
			raw.Reset()
			theirs, err := readTheirs(r)
			for err != nil && strings.HasPrefix(err.Error(), "unsupported transfer encoding") {
				// What it does not know is left out for it, once all has come.
				if _, err = r.ReadByte(); err == nil {
					theirs, err = readTheirs(bufio.NewReader(bytes.NewReader(otherCodings.ReplaceAll(raw.Bytes(), []byte("$1")))))
				}
				if errors.Is(err, io.ErrUnexpectedEOF) {
					err = errors.New("unsupported transfer encoding: not whole yet")
				}
			}
			if err != nil {
				return
			}
			got <- forwarded{theirs: theirs, ours: readOurselves(raw.Bytes())}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}).String()
}

// otherCodings are the transfer codings before chunked, as they are written anew.
var otherCodings = regexp.MustCompile(`(\r\ntransfer-encoding: )(?:(?:gzip|deflate|compress), )+`)

func readTheirs(r *bufio.Reader) (string, error) {
	req, err := nethttp.ReadRequest(r)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %s %q", req.Method, req.RequestURI, req.Host, body), nil
}

func readOurselves(raw []byte) string {
	var q http1.Request
	r := http1.NewReader(bytes.NewReader(raw), new(http1.Pool), http1.Limits{})
	if err := r.ReadRequest(&q); err != nil {
		return err.Error()
	}
	var b http1.Body
	b.Start(r, q.Framing, q.Length, true)
	var body []byte
	for {
		p, err := b.Next()
		body = append(body, p...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err.Error()
		}
	}
	return fmt.Sprintf("%s %s %s %q", q.Method, q.Target, q.Authority, body)
}

// verdictOf is what the codec says, how much body belongs to the head, and whether
// another request may follow.
func verdictOf(head string) (body string, last bool, refused *http1.Error) {
	var q http1.Request
	err := http1.NewReader(strings.NewReader(head), new(http1.Pool), http1.Limits{}).ReadRequest(&q)
	if errors.As(err, &refused) {
		return "", true, refused
	}
	switch q.Framing {
	case http1.Length:
		body = strings.Repeat("x", int(q.Length))
	case http1.Chunked:
		body = "3\r\nabc\r\n0\r\n\r\n"
	}
	return body, q.Close, nil
}

// Each case of http-desync-guardian through the whole proxy, with another request
// behind it: what is refused gets its status, names its rule, is recorded, ends the
// connection and reaches nobody; what passes arrives as one request, read alike by two
// parsers.
func TestDesyncThroughTheProxy(t *testing.T) {
	cases := http1test.DesyncCases(t)
	got := make(chan forwarded, 10)
	origin := recording(t, got)
	cfg := httpConfig(netip.MustParseAddrPort(origin), "*")
	l := listenerOn(80, &resource.FilterChain{Name: "http", HTTP: cfg.Listener("0.0.0.0_80").FilterChains[0].HTTP})
	l.FilterChains[0].HTTP.Inline.VirtualHosts = l.FilterChains[0].HTTP.Inline.VirtualHosts[1:]
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), l}, static("web", netip.MustParseAddrPort(origin))), "10.1.2.3:80")
	for i, c := range cases {
		t.Run(fmt.Sprintf("%s/%d %s", c.File, i, c.Name), func(t *testing.T) {
			body, last, refused := verdictOf(c.Raw())
			before := len(told(r))
			conn := r.dial()
			defer conn.Close()
			// A refused head may be answered before all of this is written.
			_, _ = io.WriteString(conn, c.Raw()+body+"GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			br := bufio.NewReader(conn)
			resp := must(nethttp.ReadResponse(br, &nethttp.Request{Method: c.Method}))(t)
			_, _ = io.Copy(io.Discard, resp.Body)
			if refused != nil {
				if resp.StatusCode != refused.Status || resp.Header.Get("x-egret-rule") != refused.Rule || !resp.Close {
					t.Errorf("%d %q close %v, want %d %q", resp.StatusCode, resp.Header.Get("x-egret-rule"), resp.Close, refused.Status, refused.Rule)
				}
				if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
					t.Errorf("after the refusal: %q, %v", rest, err)
				}
				recorded(t, r, before+1, "bad_request")
				return
			}
			if resp.StatusCode != 200 {
				t.Fatalf("status %d, %s", resp.StatusCode, resp.Header.Get("x-egret-reason"))
			}
			if f := <-got; f.theirs != f.ours || !strings.HasPrefix(f.theirs, c.Method+" ") {
				t.Errorf("upstream: net/http %s, we %s", f.theirs, f.ours)
			}
			if last {
				if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 || !resp.Close {
					t.Errorf("after the last answer: %q, %v", rest, err)
				}
				recorded(t, r, before+1, "-")
				return
			}
			if next := must(nethttp.ReadResponse(br, nil))(t); next.StatusCode != 200 {
				t.Errorf("the request behind it: %d", next.StatusCode)
			}
			if next := <-got; !strings.HasPrefix(next.theirs, "GET /next localhost") {
				t.Errorf("upstream then: %s", next.theirs)
			}
			recorded(t, r, before+2, "-")
		})
	}
	if len(got) > 0 {
		t.Errorf("an upstream got more: %+v", <-got)
	}
}

// told are the lines of the log.
func told(r *rig) []string {
	return slices.DeleteFunc(r.logs.lines(), func(l string) bool { return l == "" })
}

// recorded waits for n lines of the log, of which the last begins with a reason.
func recorded(t *testing.T, r *rig, n int, why string) {
	t.Helper()
	eventually(t, "the record", func() bool { return len(told(r)) >= n })
	if lines := told(r); len(lines) != n || !strings.HasPrefix(lines[n-1], why) {
		t.Errorf("recorded %q", lines[n-1:])
	}
}
