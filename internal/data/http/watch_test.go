package http

import (
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

func newWatch(t *testing.T, check func() (cause, time.Duration)) (*watch, net.Conn) {
	down, other := net.Pipe()
	t.Cleanup(func() { down.Close(); other.Close() })
	begin := time.Now()
	w := &watch{now: func() time.Duration { return time.Since(begin) }, down: down, onCheck: check}
	w.armed.Store(never)
	t.Cleanup(w.stop)
	return w, down
}

// TestWatchInterrupts: what waits is woken when the deadline passes, and only then.
func TestWatchInterrupts(t *testing.T) {
	w, down := newWatch(t, nil)
	for i := range 3 {
		w.set(causeIdle, w.now()+time.Hour)
		if !w.set(causeHead, w.now()+time.Millisecond) { // nearer than what is armed
			t.Fatal("interrupted too early")
		}
		if _, err := down.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Fatalf("round %d: %v", i, err)
		}
		if c := w.interrupted(); c != causeHead || w.set(causeIdle, time.Duration(never>>causeBits)) || w.clear() || w.attach(down) {
			t.Fatalf("round %d: cause %d", i, c)
		}
		w.resume()
		if w.interrupted() != causeNone || !w.clear() {
			t.Fatal("not resumed")
		}
	}
}

// TestWatchRace moves and clears deadlines around the moment that they pass: clear
// says no exactly when the watch has interrupted.
func TestWatchRace(t *testing.T) {
	w, down := newWatch(t, nil)
	fired := 0
	for range 2000 {
		w.set(causeIdle, w.now()+time.Duration(rand.IntN(200))*time.Microsecond)
		if w.set(causeHead, w.now()+time.Duration(rand.IntN(100))*time.Microsecond) && w.clear() {
			continue
		}
		fired++
		if w.interrupted() == causeNone {
			t.Fatal("neither cleared nor interrupted")
		}
		if _, err := down.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Fatal(err)
		}
		w.resume()
	}
	t.Logf("%d of 2000 deadlines passed", fired)
}

// TestWatchChecks: a check may go on, and interrupt.
func TestWatchChecks(t *testing.T) {
	n := 0 // only touched in check, and after it interrupted
	begin := time.Now()
	check := func() (cause, time.Duration) {
		if n++; n == 5 {
			return causeGone, 0
		}
		return causeNone, time.Since(begin) + time.Millisecond
	}
	w, down := newWatch(t, check)
	w.set(causeCheck, w.now())
	if _, err := down.Read(make([]byte, 1)); !os.IsTimeout(err) || w.interrupted() != causeGone || n != 5 {
		t.Errorf("%v, cause %d, %d checks", err, w.interrupted(), n)
	}
}

func TestInterruptOnlyWhileIdle(t *testing.T) {
	w, _ := newWatch(t, nil)
	w.set(causeCheck, time.Hour)
	w.interruptIf(causeIdle, causeDrain)
	if w.interrupted() != causeNone {
		t.Error("a busy connection was interrupted")
	}
	w.set(causeIdle, time.Hour)
	w.interruptIf(causeIdle, causeDrain)
	if w.interrupted() != causeDrain {
		t.Error("an idle connection was not interrupted")
	}
}
