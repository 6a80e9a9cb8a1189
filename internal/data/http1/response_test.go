package http1

import (
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

type answer struct {
	Status       int
	Reason, Body string
	Fields       string
	Framing      Framing
	Declared     int64
	Close        bool
	Rest         string
}

func readAnswer(t *testing.T, raw, method string) (answer, error) {
	t.Helper()
	var s Response
	r := NewReader(iotest.HalfReader(strings.NewReader(raw)), new(Pool), Limits{})
	if err := r.ReadResponse(&s, method); err != nil {
		return answer{}, err
	}
	var b Body
	b.Start(r, s.Framing, s.Length, false)
	body, err := readAll(&b)
	if err != nil {
		return answer{}, err
	}
	got := answer{Status: s.Status, Reason: s.Reason, Body: body, Fields: list(&s.Fields, &b.Trailers),
		Framing: s.Framing, Declared: s.Declared, Close: s.Close}
	got.Rest = string(r.TakeBuffered())
	return got, nil
}

func TestResponses(t *testing.T) {
	tests := []struct {
		name, method, raw string
		want              answer
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			answer{Status: 200, Reason: "OK", Body: "abc", Fields: "Content-Length=3", Framing: Length, Declared: 3}},
		{"length zero", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			answer{Status: 200, Reason: "OK", Fields: "Content-Length=0"}},
		{"no reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
			answer{Status: 200, Fields: "Content-Length=0"}},
		{"no space after status", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
			answer{Status: 200, Fields: "Content-Length=0"}},
		{"chunked with extension", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n",
			answer{Status: 200, Reason: "OK", Body: "abc", Fields: "Transfer-Encoding=chunked|trailer T=u", Framing: Chunked, Declared: -1}},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\nabc",
			answer{Status: 200, Reason: "OK", Body: "abc", Framing: UntilClose, Declared: -1, Close: true}},
		{"HTTP/1.0 until close", "GET", "HTTP/1.0 200 OK\r\n\r\nabc",
			answer{Status: 200, Reason: "OK", Body: "abc", Framing: UntilClose, Declared: -1, Close: true}},
		{"HTTP/1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
			answer{Status: 200, Reason: "OK", Body: "a", Fields: "Connection=keep-alive|Content-Length=1", Framing: Length, Declared: 1}},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
			answer{Status: 200, Reason: "OK", Body: "a", Fields: "Connection=close|Content-Length=1", Framing: Length, Declared: 1, Close: true}},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
			answer{Status: 200, Reason: "OK", Fields: "Content-Length=100", Declared: 100}},
		{"HEAD chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			answer{Status: 200, Reason: "OK", Fields: "Transfer-Encoding=chunked", Declared: -1}},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n",
			answer{Status: 204, Reason: "No Content", Declared: -1}},
		{"204 with length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
			answer{Status: 204, Reason: "No Content", Fields: "Content-Length=5", Declared: 5, Close: true, Rest: "hello"}},
		{"304 with length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
			answer{Status: 304, Reason: "Not Modified", Fields: "Content-Length=5", Declared: 5}},
		{"100", "POST", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
			answer{Status: 100, Reason: "Continue", Declared: -1, Rest: "HTTP/1.1 200 OK\r\n"}},
		{"CONNECT", "CONNECT", "HTTP/1.1 200 OK\r\n\r\nbytes",
			answer{Status: 200, Reason: "OK", Declared: -1, Rest: "bytes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readAnswer(t, test.raw, test.method)
			if err != nil {
				t.Fatal(err)
			}
			// HalfReader leaves a part unread where the message ended before it.
			if len(got.Rest) < len(test.want.Rest) && strings.HasPrefix(test.want.Rest, got.Rest) {
				got.Rest = test.want.Rest
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefusedResponses(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	tests := []struct{ name, raw, rule string }{
		{"garbage", "hello\r\n\r\n", "status_line"},
		{"empty first line", "\r\n" + ok + "\r\n", "status_line"},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", "version_not_supported"},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", "status_line"},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", "status_line"},
		{"000", "HTTP/1.1 000 OK\r\n\r\n", "status_line"},
		{"600", "HTTP/1.1 600 OK\r\n\r\n", "status_line"},
		{"signed", "HTTP/1.1 +20 OK\r\n\r\n", "status_line"},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", "status_line"},
		{"CR in reason", "HTTP/1.1 200 O\rK\r\n\r\n", "bare_cr"},
		{"LF only", "HTTP/1.1 200 OK\n\n", "bare_lf"},
		{"fold", ok + "A: b\r\n c\r\n\r\n", "obs_fold"},
		{"space before colon", ok + "Content-Length : 3\r\n\r\n", "space_before_colon"},
		{"CL and TE", ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_and_content_length"},
		{"lengths differ", ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "content_length_conflict"},
		{"lengths equal", ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "content_length_repeated"},
		{"TE gzip", ok + "Transfer-Encoding: gzip\r\n\r\n", "transfer_encoding_not_chunked"},
		{"TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_http10"},
		{"chunk size", ok + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", "chunk_size_invalid"},
		{"chunk extensions without end", ok + "Transfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 100) + "0\r\n\r\n", "chunk_extension"},
		{"chunk extension with control", ok + "Transfer-Encoding: chunked\r\n\r\n1;\x01\r\na\r\n0\r\n\r\n", "chunk_extension"},
		{"short body", ok + "Content-Length: 3\r\n\r\nab", "unexpected EOF"},
		{"short head", "HTTP/1.1 200", "unexpected EOF"},
		{"nothing", "", ErrClosed.Error()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := readAnswer(t, test.raw, "GET")
			if got := ruleOf(err); got != test.rule {
				t.Errorf("rule %q, want %q", got, test.rule)
			}
		})
	}
}
