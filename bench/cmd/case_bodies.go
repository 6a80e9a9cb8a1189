package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bodiesCase is large bodies: every second request sends one, the others get one.
func bodiesCase(name string, size int, perSecond string) benchCase {
	return benchCase{
		name: name,
		about: fmt.Sprintf("HTTP/1.1, bodies of %d bytes: a POST and a GET in turns, 16 kept connections, access log on: `wrk -t1 -c16 -s bodies.lua` (the script is in case_bodies.go); HAProxy with `option splice-request` and `splice-response`; latency of GET at %s requests/s: `load rate -rate %s`",
			size, perSecond, perSecond),
		columns: append([]column{{"cpu", "CPU ms/GB", 1}, {"rate", "MB/s", 0}, {"rss", "RSS MB", 1}}, latencyColumns...),
		ratios:  []ratio{{peer: haproxy, key: "cpu", goal: 1.0}, {peer: envoy, key: "cpu"}, {peer: nginx, key: "cpu"}},
		start: func(ctx context.Context, s *session) ([]*target, error) {
			if err := os.WriteFile(filepath.Join(s.dir, "down"), []byte(strings.Repeat("x", size)), 0o600); err != nil {
				return nil, err
			}
			if _, err := s.write("bodies.lua", bodiesScript(size)); err != nil {
				return nil, err
			}
			return s.startHTTP1(ctx, true, haproxyOptions{accessLog: true, splice: true})
		},
		measure: func(ctx context.Context, s *session, t *target) (sample, error) {
			one, err := s.closedLoop(ctx, t, func(d time.Duration) (closed, error) {
				return s.wrk(ctx, t, 16, d, filepath.Join(s.dir, "bodies.lua"))
			})
			if err != nil {
				return nil, err
			}
			one["cpu"] *= 1e9 / float64(size) / 1e3 // µs for a body to ms for a GB
			one["rate"] *= float64(size) / 1e6
			return one, s.rate(ctx, t, one, "-path", "/down", "-rate", perSecond)
		},
	}
}

// bodiesScript makes wrk's requests.
func bodiesScript(size int) string {
	return fmt.Sprintf(`local up, down, n = nil, nil, 0
init = function(args)
  up = wrk.format("POST", "/up", {["Host"] = %[1]q, ["Content-Type"] = "text/plain"}, string.rep("x", %[2]d))
  down = wrk.format("GET", "/down", {["Host"] = %[1]q})
end
request = function()
  n = n + 1
  if n %% 2 == 0 then return up end
  return down
end
`, originHost, size)
}
