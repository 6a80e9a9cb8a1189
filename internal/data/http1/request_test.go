package http1

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// parse reads one request from raw and its whole body.
func parse(raw string, limits Limits) (*Request, string, error) {
	var q Request
	r := NewReader(strings.NewReader(raw), new(Pool), limits)
	if err := r.ReadRequest(&q); err != nil {
		return &q, "", err
	}
	var b Body
	b.Start(r, q.Framing, q.Length, true)
	body, err := readAll(&b)
	return &q, body, err
}

func readAll(b *Body) (string, error) {
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

func ruleOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Rule
	}
	return err.Error()
}

const hostLine = "Host: example.com\r\n"

// TestRefusedRequests has one line per rule, and per way round it that is known.
func TestRefusedRequests(t *testing.T) {
	get := "GET / HTTP/1.1\r\n" + hostLine
	post := "POST / HTTP/1.1\r\n" + hostLine
	chunked := post + "Transfer-Encoding: chunked\r\n\r\n"
	tests := []struct{ name, raw, rule string }{
		{"LF only", "GET / HTTP/1.1\nHost: a\n\n", "bare_lf"},
		{"LF in header", get + "A: b\n\r\n", "bare_lf"},
		{"LF as first byte", "\nGET / HTTP/1.1\r\n\r\n", "bare_lf"},
		{"CR in value", get + "A: b\rc\r\n\r\n", "bare_cr"},
		{"CR at end of value", get + "A: b\r\r\n\r\n", "bare_cr"},
		{"CR in name", get + "A\rb: c\r\n\r\n", "bare_cr"},
		{"CR in target", "GET /\rb HTTP/1.1\r\n" + hostLine + "\r\n", "bare_cr"},
		{"CR after version", "GET / HTTP/1.1\r\r\n" + hostLine + "\r\n", "bare_cr"},
		{"two empty lines first", "\r\n\r\n" + get + "\r\n", "empty_lines"},

		{"no version", "GET /\r\n" + hostLine + "\r\n", "request_line"},
		{"HTTP/0.9 style", "GET\r\n\r\n", "request_line"},
		{"two spaces", "GET  / HTTP/1.1\r\n" + hostLine + "\r\n", "request_line"},
		{"two spaces before version", "GET /  HTTP/1.1\r\n" + hostLine + "\r\n", "request_line"},
		{"space after version", "GET / HTTP/1.1 \r\n" + hostLine + "\r\n", "request_line"},
		{"space in target", "GET /a b HTTP/1.1\r\n" + hostLine + "\r\n", "request_line"},
		{"space first", " GET / HTTP/1.1\r\n" + hostLine + "\r\n", "method_invalid"},
		{"tab for space", "GET\t/ HTTP/1.1\r\n" + hostLine + "\r\n", "method_invalid"},
		{"lower case method", "get / HTTP/1.1\r\n" + hostLine + "\r\n", "method_invalid"},
		{"method with NUL", "G\x00T / HTTP/1.1\r\n" + hostLine + "\r\n", "method_invalid"},
		{"long method", strings.Repeat("G", 33) + " / HTTP/1.1\r\n" + hostLine + "\r\n", "method_invalid"},
		{"HTTP/1.2", "GET / HTTP/1.2\r\n" + hostLine + "\r\n", "version_not_supported"},
		{"HTTP/2.0", "GET / HTTP/2.0\r\n" + hostLine + "\r\n", "version_not_supported"},
		{"HTTP/01.1", "GET / HTTP/01.1\r\n" + hostLine + "\r\n", "version_not_supported"},
		{"http/1.1", "GET / http/1.1\r\n" + hostLine + "\r\n", "version_not_supported"},
		{"long request line", "GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\n" + hostLine + "\r\n", "request_line_too_long"},

		{"tab in target", "GET /a\tb HTTP/1.1\r\n" + hostLine + "\r\n", "target_character"},
		{"NUL in target", "GET /a\x00b HTTP/1.1\r\n" + hostLine + "\r\n", "target_character"},
		{"DEL in target", "GET /a\x7fb HTTP/1.1\r\n" + hostLine + "\r\n", "target_character"},
		{"fragment with NUL", "GET /a#\x00 HTTP/1.1\r\n" + hostLine + "\r\n", "target_character"},
		{"fragment only", "GET #b HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"fragment with CONNECT", "CONNECT example.com:443#b HTTP/1.1\r\nHost: evil.com:443\r\n\r\n", "host_target_mismatch"},
		{"fragment that hides the host", "GET http://example.com#@evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n", "host_target_mismatch"},
		{"non-ASCII host in target", "GET http://\xc3\xa9/ HTTP/1.1\r\n" + hostLine + "\r\n", "host_invalid"},
		{"non-ASCII first in target", "GET \xc3\xa9 HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"no target with OPTIONS", "OPTIONS  HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"no target with CONNECT", "CONNECT  HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"three spaces for a target", "GET   HTTP/1.1\r\n" + hostLine + "\r\n", "request_line"},
		{"no target and no version", "GET  \r\n" + hostLine + "\r\n", "version_not_supported"},
		{"relative target", "GET a HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"asterisk with GET", "GET * HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"authority with GET", "GET example.com:80 HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"CONNECT with path", "CONNECT /a HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"CONNECT without port", "CONNECT example.com HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"absolute without path, with query", "GET http://example.com?a HTTP/1.1\r\n" + hostLine + "\r\n", "target_form"},
		{"other scheme", "GET ftp://example.com/ HTTP/1.1\r\n" + hostLine + "\r\n", "target_scheme"},
		{"user information", "GET http://u@example.com/ HTTP/1.1\r\n" + hostLine + "\r\n", "target_userinfo"},
		{"absolute, other host", "GET http://evil.com/ HTTP/1.1\r\n" + hostLine + "\r\n", "host_target_mismatch"},
		{"absolute, other port", "GET http://example.com:81/ HTTP/1.1\r\n" + hostLine + "\r\n", "host_target_mismatch"},
		{"CONNECT, other host", "CONNECT evil.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "host_target_mismatch"},

		{"no Host", "GET / HTTP/1.1\r\n\r\n", "host_missing"},
		{"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "host_missing"},
		{"two Hosts", get + "host: example.com\r\n\r\n", "host_repeated"},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "host_invalid"},
		{"Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host_invalid"},
		{"Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host_invalid"},
		{"Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "target_userinfo"},
		{"Host with bad port", "GET / HTTP/1.1\r\nHost: a:8a\r\n\r\n", "host_invalid"},
		{"Host with empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "host_invalid"},
		{"Host with large port", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "host_invalid"},
		{"Host with zero before port", "GET / HTTP/1.1\r\nHost: a:080\r\n\r\n", "host_invalid"},
		{"Host IPv6 without brackets", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "host_invalid"},
		{"Host IPv6 that is none", "GET / HTTP/1.1\r\nHost: [:::1]\r\n\r\n", "host_invalid"},
		{"Host IPv4 in brackets", "GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", "host_invalid"},
		{"Host IPv6 with zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n", "host_invalid"},
		{"Host IPv6 and more", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", "host_invalid"},
		{"Host with port 0", "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", "host_invalid"},
		{"Host with backslash", "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", "host_invalid"},
		{"Host with two dots", "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", "host_invalid"},
		{"Host with percent", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", "host_invalid"},
		{"Host non-ASCII", "GET / HTTP/1.1\r\nHost: \xe4.com\r\n\r\n", "host_invalid"},

		{"obs-fold with space", get + "A: b\r\n c\r\n\r\n", "obs_fold"},
		{"obs-fold with tab", get + "A: b\r\n\tc\r\n\r\n", "obs_fold"},
		{"space before first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "obs_fold"},
		{"no colon", get + "Abc\r\n\r\n", "field_without_colon"},
		{"empty name", get + ": b\r\n\r\n", "field_name_empty"},
		{"space before colon", get + "A : b\r\n\r\n", "space_before_colon"},
		{"tab before colon", get + "A\t: b\r\n\r\n", "space_before_colon"},
		{"space in name", get + "A b: c\r\n\r\n", "field_name_invalid"},
		{"non-ASCII name", get + "A\x88: c\r\n\r\n", "field_name_invalid"},
		{"NUL in name", get + "A\x00: c\r\n\r\n", "field_value_nul"},
		{"NUL in value", get + "A: b\x00c\r\n\r\n", "field_value_nul"},
		{"NUL far in value", get + "A: " + strings.Repeat("b", 37) + "\x00c\r\n\r\n", "field_value_nul"},
		{"control in value", get + "A: b\x01c\r\n\r\n", "field_value_control"},
		{"DEL in value", get + "A: bcdefghijk\x7flmnop\r\n\r\n", "field_value_control"},
		{"vertical tab in value", get + "A: \x0bchunked\r\n\r\n", "field_value_control"},
		{"underscore framing", post + "Transfer_Encoding: chunked\r\n\r\n", "framing_field_lookalike"},
		{"double hyphen framing", post + "Content--Length: 5\r\n\r\n", "framing_field_lookalike"},

		{"length negative", post + "Content-Length: -1\r\n\r\n", "content_length_invalid"},
		{"length plus", post + "Content-Length: +1\r\n\r\n", "content_length_invalid"},
		{"length hex", post + "Content-Length: 0x1\r\n\r\n", "content_length_invalid"},
		{"length empty", post + "Content-Length:\r\n\r\n", "content_length_invalid"},
		{"length list", post + "Content-Length: 5, 5\r\n\r\n", "content_length_invalid"},
		{"length spaces", post + "Content-Length: 5 5\r\n\r\n", "content_length_invalid"},
		{"length octal", post + "Content-Length: 010\r\n\r\n", "content_length_invalid"},
		{"length overflow", post + "Content-Length: 9223372036854775808\r\n\r\n", "content_length_invalid"},
		{"length wraps 64 bits", post + "Content-Length: 18446744073709551617\r\n\r\n", "content_length_invalid"},
		{"length underscore", post + "Content-Length: 1_0\r\n\r\n", "content_length_invalid"},
		{"lengths differ", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "content_length_conflict"},
		{"length twice", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "content_length_repeated"},
		{"CL.TE", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_and_content_length"},
		{"TE.CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "transfer_encoding_and_content_length"},
		{"TE.TE", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_repeated"},
		{"TE twice in list", post + "Transfer-Encoding: chunked, chunked\r\n\r\n", "transfer_encoding_repeated"},
		{"TE twice, not side by side", post + "Transfer-Encoding: chunked, gzip, chunked\r\n\r\n", "transfer_encoding_not_last"},
		{"TE twice in two fields", post + "Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_repeated"},
		{"TE after chunked", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "transfer_encoding_not_last"},
		{"TE identity", post + "Transfer-Encoding: identity\r\n\r\n", "transfer_encoding_not_last"},
		{"TE gzip", post + "Transfer-Encoding: gzip\r\n\r\n", "transfer_encoding_not_last"},
		{"TE very long", post + "Transfer-Encoding: " + strings.Repeat("gzip,", 9) + "chunked\r\n\r\n", "transfer_encoding_not_last"},
		{"TE list with Content-Length", post + "Transfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\n\r\n", "transfer_encoding_and_content_length"},
		{"TE list in HTTP/1.0", "POST / HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer_encoding_http10"},
		{"TE not registered", post + "Transfer-Encoding: br, chunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE almost chunked", post + "Transfer-Encoding: xchunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with an empty member", post + "Transfer-Encoding: gzip,, chunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with a comma at the end", post + "Transfer-Encoding: chunked,\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with a quoted comma", post + "Transfer-Encoding: gzip;a=\"b, chunked\"\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with half a parameter", post + "Transfer-Encoding: chunked;a=\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with a space in it", post + "Transfer-Encoding: gzip chunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n", "transfer_encoding_unknown"},
		{"TE empty", post + "Transfer-Encoding:\r\n\r\n", "transfer_encoding_unknown"},
		{"TE empty, then chunked", post + "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE with NBSP", post + "Transfer-Encoding: \xa0chunked\r\n\r\n", "transfer_encoding_unknown"},
		{"TE in HTTP/1.0", "POST / HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n", "transfer_encoding_http10"},
		{"other expectation", post + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", "expect_unknown"},
		{"CONNECT with body", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\n", "connect_with_body"},
		{"upgrade with body", post + "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", "upgrade_with_body"},

		{"chunk size empty", chunked + "\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size plus", chunked + "+3\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size minus", chunked + "-3\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size 0x", chunked + "0x3\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size space first", chunked + " 3\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size space after", chunked + "3 \r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size tab after", chunked + "3\t\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size underscore", chunked + "1_0\r\nabc\r\n", "chunk_size_invalid"},
		{"chunk size overflow", chunked + "fffffffffffffff0\r\nabc\r\n", "chunk_size_overflow"},
		{"chunk size wraps", chunked + "10000000000000003\r\nabc\r\n", "chunk_size_overflow"},
		{"chunk size many zeros", chunked + "00000000000000003\r\nabc\r\n", "chunk_size_overflow"},
		{"chunk extension", chunked + "3;a=b\r\nabc\r\n0\r\n\r\n", "chunk_extension"},
		{"chunk size LF", chunked + "3\nabc\r\n0\r\n\r\n", "bare_lf"},
		{"chunk size CR in line", chunked + "3\r3\r\nabc\r\n", "bare_cr"},
		{"chunk line endless", chunked + strings.Repeat("0", 1000), "chunk_size_invalid"},
		{"chunk data too long", chunked + "3\r\nabcd\r\n0\r\n\r\n", "chunk_end"},
		{"chunk data LF", chunked + "3\r\nabc\n0\r\n\r\n", "chunk_end"},
		{"trailer LF", chunked + "0\r\nA: b\n\r\n", "bare_lf"},
		{"trailer end LF", chunked + "0\r\n\n", "bare_lf"},
		{"trailer framing", chunked + "0\r\nContent-Length: 3\r\n\r\n", "trailer_forbidden"},
		{"trailer host", chunked + "0\r\nHost: evil\r\n\r\n", "trailer_forbidden"},
		{"trailer authorization", chunked + "0\r\nAuthorization: x\r\n\r\n", "trailer_forbidden"},
		{"trailer fold", chunked + "0\r\nA: b\r\n c\r\n\r\n", "obs_fold"},
		{"trailer name", chunked + "0\r\nA b: c\r\n\r\n", "field_name_invalid"},
		{"trailers too large", chunked + "0\r\nA: " + strings.Repeat("b", 9<<10), "trailers_too_large"},
		{"trailers too many", chunked + "0\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", "too_many_fields"},

		{"too many fields", get + strings.Repeat("A: b\r\n", 100) + "\r\n", "too_many_fields"},
		{"too many fields, unfinished", get + strings.Repeat("A: b\r\n", 200), "too_many_fields"},
		{"header section too large", get + "A: " + strings.Repeat("b", 62<<10) + "\r\n\r\n", "header_section_too_large"},
		{"header section without end", get + "A: " + strings.Repeat("b", 70<<10), "header_section_too_large"},
		{"end of input in head", get + "A: ", "unexpected EOF"},
		{"end of input in length", post + "Content-Length: 5\r\n\r\nabc", "unexpected EOF"},
		{"end of input in chunk", chunked + "5\r\nabc", "unexpected EOF"},
		{"end of input after chunk", chunked + "3\r\nabc", "unexpected EOF"},
		{"end of input before trailers", chunked + "0\r\n", "unexpected EOF"},
		{"nothing", "", ErrClosed.Error()},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrHTTP2Preface.Error()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parse(test.raw, Limits{})
			if got := ruleOf(err); got != test.rule {
				t.Errorf("rule %q, want %q, for %.80q", got, test.rule, test.raw)
			}
		})
	}
}

// How the bytes arrive does not change what is refused.
func TestRefusedInPieces(t *testing.T) {
	for _, raw := range []string{"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		for step := 1; step < 6; step++ {
			var q Request
			err := NewReader(&stepReader{[]byte(raw), step}, new(Pool), Limits{}).ReadRequest(&q)
			if got := ruleOf(err); got != "empty_lines" {
				t.Errorf("%q in pieces of %d: %q", raw, step, got)
			}
		}
	}
}

type parsed struct {
	Method, Authority, Path, Body, Upgrade string
	Fields, Codings                        string
	Close, Expect100, HTTP10               bool
}

func TestAcceptedRequests(t *testing.T) {
	tests := []struct {
		name, raw string
		want      parsed
	}{
		{"plain", "GET /a?b=c HTTP/1.1\r\nHost: example.com:8080\r\nX-A: b c \r\n\r\n",
			parsed{Method: "GET", Authority: "example.com:8080", Path: "/a?b=c", Fields: "Host=example.com:8080|X-A=b c"}},
		{"one empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a"}},
		{"no space after colon", "GET / HTTP/1.1\r\nHost:a\r\nB:\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a|B="}},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
			parsed{Method: "GET", Authority: "[2001:db8::1]:80", Path: "/", Fields: "Host=[2001:db8::1]:80"}},
		{"absolute", "GET HTTP://Example.com:80/a HTTP/1.1\r\nHost: example.com\r\n\r\n",
			parsed{Method: "GET", Authority: "example.com", Path: "/a", Fields: "Host=example.com"}},
		{"absolute without path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a"}},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "OPTIONS", Authority: "a", Path: "*", Fields: "Host=a"}},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
			parsed{Method: "CONNECT", Authority: "a:443", Close: true, Fields: "Host=a:443"}},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
			parsed{Method: "POST", Authority: "a", Path: "/", Body: "abc", Fields: "Host=a|Content-Length=3"}},
		{"length zero", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nabc",
			parsed{Method: "POST", Authority: "a", Path: "/", Fields: "Host=a|Content-Length=0"}},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChUnKeD\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n000\r\nX: y\r\n\r\n",
			parsed{Method: "POST", Authority: "a", Path: "/", Body: "abc0123456789", Fields: "Host=a|Transfer-Encoding=ChUnKeD|trailer X=y"}},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", HTTP10: true, Close: true, Fields: "Host=a"}},
		{"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", HTTP10: true, Fields: "Host=a|Connection=Keep-Alive"}},
		{"HTTP/1.0 absolute without Host", "GET http://a/ HTTP/1.0\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", HTTP10: true, Close: true}},
		{"close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Close: true, Fields: "Host=a|Connection=foo, Close"}},
		{"expect", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
			parsed{Method: "PUT", Authority: "a", Path: "/", Expect100: true, Body: "x", Fields: "Host=a|Expect=100-Continue|Content-Length=1"}},
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Upgrade: "websocket", Close: true, Fields: "Host=a|Connection=Upgrade|Upgrade=websocket"}},
		{"upgrade not named in Connection", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a|Upgrade=websocket"}},
		{"h2c is not an upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a|Connection=Upgrade|Upgrade=h2c"}},
		{"no target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a"}},
		{"fragment", "GET /a?b#c?d#e\xff HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/a?b", Fields: "Host=a"}},
		{"fragment of an absolute target", "GET http://a#@b/c HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a"}},
		{"non-ASCII target", "GET /\xc3\xa9?\xff%ff HTTP/1.1\r\nHost: a\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/%C3%A9?%FF%ff", Fields: "Host=a"}},
		{"transfer codings", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: X-GZip;q=1 ,\tidentity, deflate\r\nTransfer-Encoding: compress, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			parsed{Method: "POST", Authority: "a", Path: "/", Body: "abc", Close: true, Codings: "gzip, deflate, compress, ",
				Fields: "Host=a|Transfer-Encoding=X-GZip;q=1 ,\tidentity, deflate|Transfer-Encoding=compress, chunked"}},
		{"chunked with a parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a;\t\r\n\r\n0\r\n\r\n",
			parsed{Method: "POST", Authority: "a", Path: "/", Close: true, Fields: "Host=a|Transfer-Encoding=chunked;a;"}},
		{"obs-text", "GET / HTTP/1.1\r\nHost: a\r\nB: \xe4\t\xff\r\n\r\n",
			parsed{Method: "GET", Authority: "a", Path: "/", Fields: "Host=a|B=\xe4\t\xff"}},
	}
	for _, test := range tests {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/slow=%v", test.name, slow), func(t *testing.T) {
				var src io.Reader = strings.NewReader(test.raw)
				if slow {
					src = iotest.OneByteReader(src)
				}
				var q Request
				r := NewReader(src, new(Pool), Limits{})
				if err := r.ReadRequest(&q); err != nil {
					t.Fatal(err)
				}
				var b Body
				b.Start(r, q.Framing, q.Length, true)
				body, err := readAll(&b)
				if err != nil {
					t.Fatal(err)
				}
				got := parsed{q.Method, q.Authority, q.Path, body, q.Upgrade, list(&q.Fields, &b.Trailers), q.Codings, q.Close, q.Expect100, q.HTTP10}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

func list(fields, trailers *Fields) string {
	var s []string
	for n, v := range fields.All {
		s = append(s, n+"="+v)
	}
	for n, v := range trailers.All {
		s = append(s, "trailer "+n+"="+v)
	}
	return strings.Join(s, "|")
}

// TestPipelined reads several requests of one connection in all ways to cut the
// input in two, so that each state is left and entered again.
func TestPipelined(t *testing.T) {
	raw := "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n" +
		"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n"
	want := "POST /1 abc ; GET /2  ; POST /3 abcde T=u; GET /4  ; "
	for cut := 0; cut <= len(raw); cut++ {
		src := io.MultiReader(strings.NewReader(raw[:cut]), strings.NewReader(raw[cut:]))
		r := NewReader(src, new(Pool), Limits{})
		var q Request
		var b Body
		got := ""
		for {
			err := r.ReadRequest(&q)
			if err == ErrClosed {
				break
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			b.Start(r, q.Framing, q.Length, true)
			body, err := readAll(&b)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			got += q.Method + " " + q.Path + " " + body + " " + list(&b.Trailers, new(Fields)) + "; "
			r.Release()
		}
		if got != want {
			t.Fatalf("cut at %d: %q, want %q", cut, got, want)
		}
	}
}

// TestHeadSurvivesBody checks that the head's strings stay right while a body much
// larger than the buffer is read.
func TestHeadSurvivesBody(t *testing.T) {
	const size = 300 << 10
	raw := fmt.Sprintf("POST /path HTTP/1.1\r\nHost: example.com\r\nX-A: value\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("z", size))
	q, body, err := parse(raw, Limits{})
	if err != nil || len(body) != size {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	if v, _ := q.Fields.Get("x-a"); v != "value" || q.Path != "/path" || q.Authority != "example.com" {
		t.Errorf("head changed: %q %q %q", v, q.Path, q.Authority)
	}
}

func TestLimits(t *testing.T) {
	raw := "GET /" + strings.Repeat("a", 100) + " HTTP/1.1\r\nHost: a\r\nB: c\r\nD: e\r\n\r\n"
	for _, test := range []struct {
		limits Limits
		rule   string
	}{
		{Limits{}, ""},
		{Limits{RequestLine: 64}, "request_line_too_long"},
		{Limits{HeaderBytes: 130}, "header_section_too_large"},
		{Limits{Fields: 2}, "too_many_fields"},
		{Limits{Fields: 3}, ""},
	} {
		if _, _, err := parse(raw, test.limits); ruleOf(err) != test.rule {
			t.Errorf("%+v: %v, want %q", test.limits, err, test.rule)
		}
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("allocations cannot be counted under the race detector")
	}
	raw := "POST /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	src := strings.NewReader(raw)
	r := NewReader(src, new(Pool), Limits{})
	var q Request
	var b Body
	once := func() {
		src.Reset(raw)
		if err := r.ReadRequest(&q); err != nil {
			t.Fatal(err)
		}
		b.Start(r, q.Framing, q.Length, true)
		for {
			if _, err := b.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		r.Release()
	}
	once()
	if n := testing.AllocsPerRun(100, once); n > 0 {
		t.Errorf("%v allocations per request", n)
	}
}

// TestReadyNeverLies: where Ready says yes, Next does not read.
func TestReadyNeverLies(t *testing.T) {
	raw := "3\r\nabc\r\n03\r\ndef\r\n10\r\n0123456789abcdef\r\n0\r\nT: u\r\nV: w\r\n\r\n"
	for cut := 0; cut <= len(raw); cut++ {
		src := &countingReader{src: io.MultiReader(strings.NewReader(raw[:cut]), strings.NewReader(raw[cut:]))}
		r := NewReader(src, new(Pool), Limits{})
		var b Body
		b.Start(r, Chunked, 0, true)
		for {
			ready, before := b.Ready(), src.reads
			_, err := b.Next()
			if ready && src.reads != before {
				t.Fatalf("cut at %d: Ready, but Next read", cut)
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

type countingReader struct {
	src   io.Reader
	reads int
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.reads++
	return c.src.Read(p)
}
