package houserules

import (
	"regexp"
	"strings"
	"testing"
)

// wallClock finds what looks at the time of day, or takes the monotonic reading off a time
// (package time, "Monotonic Clocks"). All else, time.Now, Since, Until, Sub, timers and
// deadlines among it, goes by the monotonic clock, which does not jump.
var wallClock = regexp.MustCompile(`\.Unix(Nano|Milli|Micro)?\(\)|\btime\.(Unix\w*|Date|Parse|ParseInLocation)\(|\.Round\(0\)|\.AddDate\(|\bModTime\(\)|\.CurrentTime\b|\bCLOCK_REALTIME\b`)

// wallClocks are the files that may, with what a clock that jumps does there.
var wallClocks = map[string]string{
	"internal/file/file.go":               "modification times are only compared for equality",
	"internal/control/source/scan.go":     "whether a file is read again: once more than needed, at worst",
	"internal/control/istioapi/decode.go": "the age of an object, as it says itself: which of two wins",
	"internal/control/identity/counts.go": "when a certificate ends, as metrics tell it",
	"internal/data/decide/retry.go":       "the upstream names a time of day for the next try; the wait is bounded by the policy",
	"internal/data/http/handler.go":       "the Date field, which is the time of day",
	"internal/data/http/watch.go":         "a deadline that has passed at any time",
	"internal/data/admin/certs.go":        "when a certificate file was written, as it is told",
	"internal/data/http2/out.go":          "a deadline that has passed at any time",
	"internal/data/tunnel/tunnel.go":      "a deadline that has passed at any time",
	"internal/data/upstream/resolver.go":  "a deadline that has passed at any time",
	"internal/file/filetest/authority.go": "serial numbers of certificates for tests",
	"internal/data/record/value.go":       "times in the access log",
	"internal/data/record/timefmt.go":     "times in the access log",
}

// A clock that jumps changes no timeout, no pause, no age of a connection and no life of a
// DNS answer: those go by the monotonic clock. What must go by the time of day is listed.
// Certificates do as well, in crypto/x509.
func TestTimeOfDay(t *testing.T) {
	used := map[string]bool{}
	eachGoFile(t, func(path, src string) {
		if strings.HasSuffix(path, "_test.go") || !strings.HasPrefix(path, "internal/") && !strings.HasPrefix(path, "cmd/") ||
			strings.HasPrefix(path, "internal/lab/") {
			return
		}
		for i, line := range strings.Split(src, "\n") {
			if !wallClock.MatchString(line) {
				continue
			}
			if _, ok := wallClocks[path]; !ok {
				t.Errorf("%s:%d: goes by the time of day, which may jump: %s", path, i+1, strings.TrimSpace(line))
			}
			used[path] = true
		}
	})
	for path := range wallClocks {
		if !used[path] {
			t.Errorf("%s does not go by the time of day any more", path)
		}
	}
}
