package cluster

import "testing"

func TestLogLines(t *testing.T) {
	for _, c := range []struct {
		line           string
		access, denied bool
	}{
		{`[2026-11-27T07:47:47.050Z] "HEAD / HTTP/1.1" 502 - egret:not_in_registry - "-" 0 0 0 - "-" "curl/7.88.1" "-" "www.google.com" "-" - - 198.51.100.20:80 10.244.0.7:36758 - block_all`, true, true},
		{`[2026-11-27T07:47:48.782Z] "HEAD / HTTP/2" 301 - via_upstream - "-" 0 0 1 0 "10.244.0.7" "curl/7.88.1"`, true, false},
		{`{"response_code":502,"response_code_details":"egret:not_in_registry"}`, true, true},
		{`{"response_code":200,"response_code_details":"via_upstream"}`, true, false},
		{`time=2026-11-27T07:47:47.050Z level=INFO msg=ready`, false, false},
	} {
		if isAccess(c.line) != c.access || isDenied(c.line) != c.denied {
			t.Errorf("%s: access log %v, denied %v", c.line, isAccess(c.line), isDenied(c.line))
		}
	}
}
