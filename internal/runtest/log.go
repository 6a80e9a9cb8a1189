package runtest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// Log is what has been written so far. It can be read while it is written.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// Close implements io.Closer; what comes later is kept as well.
func (l *Log) Close() error { return nil }

// String is all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Has reports whether text was written.
func (l *Log) Has(text string) bool { return strings.Contains(l.String(), text) }

// Lines is how many lines have text.
func (l *Log) Lines(text string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// Logger writes everything, debug messages too, into the log.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// NewLog makes a log that is shown when the test fails; what is whose it is.
func NewLog(t testing.TB, what string) *Log {
	t.Helper()
	l := &Log{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", what, l)
		}
	})
	return l
}

// Logger is one for what runs as long as the test at the most: its messages are shown when
// the test fails.
func Logger(t testing.TB, what string) *slog.Logger {
	t.Helper()
	return NewLog(t, what).Logger()
}
