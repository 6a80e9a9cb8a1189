package http1

import (
	"io"
	"strings"
	"testing"
)

// More takes what is there for a body of known length, from behind a head whose strings
// stay valid, and leaves Next to find out everything else.
func TestBodyMore(t *testing.T) {
	const head = "POST /path HTTP/1.1\r\nHost: a\r\n"
	for _, tc := range []struct {
		name, request, there string
		want                 bool
	}{
		{"a part is there", head + "Content-Length: 6\r\n\r\n", "abc", true},
		{"all is there", head + "Content-Length: 6\r\n\r\n", "abcdef", true},
		{"nothing is there", head + "Content-Length: 6\r\n\r\n", "", false},
		{"something is buffered", head + "Content-Length: 6\r\n\r\nab", "cdef", false},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n", "6\r\nabcdef\r\n0\r\n\r\n", false},
		{"no body", head + "\r\n", "GET", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pool Pool
			source := &onePiece{first: tc.request, rest: "abcdef"[min(len(tc.there), 6):]}
			r := NewReader(source, &pool, Limits{})
			var q Request
			if err := r.ReadRequest(&q); err != nil {
				t.Fatal(err)
			}
			var b Body
			b.Start(r, q.Framing, q.Length, true)
			got := b.More(func(p []byte) int {
				if int64(len(p)) < b.Left() {
					t.Errorf("room for %d bytes of %d", len(p), b.Left())
				}
				return copy(p[:b.Left()], tc.there)
			})
			if got != tc.want || q.Path != "/path" || q.Authority != "a" {
				t.Fatalf("%v, %q, %q", got, q.Path, q.Authority)
			}
			if !got {
				return
			}
			var all strings.Builder
			for !b.Done() {
				p, err := b.Next()
				if err != nil {
					t.Fatal(err)
				}
				all.Write(p)
			}
			if all.String() != "abcdef" || q.Path != "/path" {
				t.Errorf("the body is %q, the path %q", all.String(), q.Path)
			}
		})
	}
}

// onePiece gives the first part in one read, and then the rest.
type onePiece struct{ first, rest string }

func (s *onePiece) Read(p []byte) (int, error) {
	if s.first == "" {
		s.first, s.rest = s.rest, ""
	}
	if s.first == "" {
		return 0, io.EOF
	}
	n := copy(p, s.first)
	s.first = s.first[n:]
	return n, nil
}
