package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// stuck is a file whose Write does not come back until it is released.
type stuck struct{ entered, release chan struct{} }

func (s stuck) Write(b []byte) (int, error) {
	signal(s.entered)
	<-s.release
	return len(b), nil
}

func (stuck) Close() error { return nil }

func TestStuckFileNeverBlocks(t *testing.T) {
	s := stuck{make(chan struct{}, 1), make(chan struct{})}
	r := newRecorder(t, Options{CloseTimeout: time.Millisecond,
		Open: func(string) (io.WriteCloser, error) { return s, nil }})
	logs := []resource.AccessLog{{Path: "p", Text: strings.Repeat("x", 60<<10) + "\n"}}
	e := httpEntry()
	r.Record(e, logs)
	<-s.entered
	for i := 0; i < maxPending/(60<<10)+10; i++ {
		r.Record(e, logs)
	}
	if r.Dropped() == 0 {
		t.Error("nothing was dropped, so the queue has no bound")
	}
	if err := r.Close(); err == nil {
		t.Error("Close does not tell that lines are lost")
	}
	if got := scrape(t, r); !strings.Contains(got, fmt.Sprintf("egret_access_log_dropped_total %d", r.Dropped())) {
		t.Errorf("drops are not in the metrics: %s", got)
	}
	close(s.release) // goleak sees that the goroutine ends then
}

func TestFailingFileIsToldAndCounted(t *testing.T) {
	told := make(chan string, 10)
	var lost []string // by the file's goroutine, which ends in Close
	r := newRecorder(t, Options{Open: func(p string) (io.WriteCloser, error) {
		told <- p
		return nil, errors.New("no such folder")
	}, Lost: func(err error) { lost = append(lost, err.Error()) }})
	logs := []resource.AccessLog{{Path: "p", Text: "line\n"}}
	r.Record(httpEntry(), logs)
	<-told
	r.Record(httpEntry(), logs)
	_ = r.Close()
	if got := r.Dropped(); got != 2 {
		t.Errorf("%d lines counted as dropped, want 2", got)
	}
	if len(lost) != 1 || lost[0] != "no such folder" {
		t.Errorf("told %q, want the reason once", lost)
	}
}

// cutting takes so many bytes at first, as a disk that fills up does.
type cutting struct {
	room int
	text *bytes.Buffer
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.room >= 0 && len(b) > c.room {
		n := c.room
		c.room = -1 // there is room again
		c.text.Write(b[:n])
		return n, syscall.ENOSPC
	}
	return c.text.Write(b)
}

func (*cutting) Close() error { return nil }

// A disk that fills up cuts a line: it is counted as lost, those before it are not, and
// the next line does not become the end of the half one.
func TestFullDisk(t *testing.T) {
	var text bytes.Buffer
	file := &cutting{room: len("line\n") + 2, text: &text}
	var dropped atomic.Uint64
	s := newSink("p", func(string) (io.WriteCloser, error) { return file, nil }, slog.New(slog.DiscardHandler), &dropped)
	s.lost = func(error) {}
	s.put([]byte("line\nline\nline\n"), true)
	s.lines = 3
	spare := s.flush(nil)
	s.lastOpen = time.Time{} // the wait before the next attempt is over
	s.put([]byte("next\n"), true)
	s.flush(spare)
	if got := text.String(); got != "line\nli\nnext\n" || dropped.Load() != 2 {
		t.Errorf("%q, %d lines lost", got, dropped.Load())
	}
}

// A device that is always full, and a pipe that nobody reads: requests go on.
func TestRealFilesThatTakeNothing(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip("no pipes here: ", err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"full": "/dev/full", "pipe": fifo} {
		if _, err := os.Stat(path); err != nil {
			t.Skip(err)
		}
		r := newRecorder(t, Options{CloseTimeout: time.Millisecond})
		logs := []resource.AccessLog{{Path: path, Text: strings.Repeat("x", 60<<10) + "\n"}}
		e := httpEntry()
		for range 2 * maxPending / (60 << 10) {
			r.Record(e, logs)
		}
		_ = r.Close()
		if r.Dropped() == 0 {
			t.Errorf("%s: nothing was lost", name)
		}
	}
	if _, err := reader.Read(make([]byte, 1)); err != nil { // the writer has opened it
		t.Error(err)
	}
	_ = reader.Close() // and ends now: goleak sees that
}

func TestOpenFileAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for range 2 {
		r := newRecorder(t, Options{})
		r.Record(httpEntry(), []resource.AccessLog{{Path: path, Text: "line\n"}})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "line\nline\n" {
		t.Errorf("%q, %v", b, err)
	}
}
