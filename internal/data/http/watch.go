package http

import (
	"sync"
	"sync/atomic"
	"time"
)

// cause says why a connection's I/O was interrupted.
type cause uint8

// Causes of interruption. causeCheck does not interrupt: it asks whether to go on.
const (
	causeNone     cause = iota
	causeIdle           // no next request in time
	causeRest           // no next request for so long that there may be none for longer
	causeHead           // the request head took too long
	causeRequest        // the whole request took too long
	causeStream         // nothing moved in either direction
	causeRoute          // the route's timeout
	causeTry            // the timeout of one attempt
	causeLinger         // the time to drain is over
	causeCheck          // look at the client and the policy
	causeGone           // the client closed
	causePolicy         // the configuration does not allow it any more
	causeDrain          // the proxy is shutting down
	causeUpload         // the request body could not be read to its end
	causeDuration       // max_stream_duration
	causeCrowded        // the head is unfinished, and there are too many such
	causeScarce         // connections are scarce, and the client makes the proxy wait
)

const (
	causeBits = 5
	causeMask = 1<<causeBits - 1
	_         = uint(causeMask - causeScarce) // the last fits

	never    = int64(1)<<62 - 1
	checking = int64(-1) // the callback is in onCheck
)

// longAgo is a deadline that interrupts what waits.
var longAgo = time.Unix(1, 0)

// watch is the deadline of one downstream connection and of the upstream connection it
// is using. Moving a deadline is one atomic operation: a single timer is armed no
// later than the deadline, and armed again when it fires too early.
type watch struct {
	now func() time.Duration

	// state is the deadline (nanoseconds << causeBits | cause), 0 for none, checking,
	// or below that -cause-1 when the watch has interrupted.
	state atomic.Int64
	armed atomic.Int64 // when the timer fires; never: it is not armed

	// onCheck is asked when a deadline of causeCheck passes: it returns the cause to
	// interrupt with, or causeNone and when to ask again. It runs on the timer's
	// goroutine, while the connection's own goroutine is in I/O or waits for it.
	onCheck func() (cause, time.Duration)

	mu      sync.Mutex
	use     uint64 // how many begins there were
	timer   *time.Timer
	stopped bool
	down    interruptible
	up      interruptible
}

// interruptible is a connection, a stream, or the wait for one. The watch only ever
// sets a deadline in the past, or none.
type interruptible interface{ SetDeadline(time.Time) error }

// set moves the deadline. It returns false when the watch has interrupted.
func (w *watch) set(c cause, at time.Duration) bool {
	v := int64(at)<<causeBits | int64(c)
	for {
		old := w.state.Load()
		if old == checking {
			w.await()
			continue
		}
		if old < checking {
			return false
		}
		if w.state.CompareAndSwap(old, v) {
			break
		}
	}
	if int64(at) < w.armed.Load() {
		w.arm(at)
	}
	return true
}

// clear takes the deadline away. It returns false when the watch has interrupted.
func (w *watch) clear() bool {
	for {
		old := w.state.Load()
		if old == checking {
			w.await()
			continue
		}
		if old < checking {
			return false
		}
		if old == 0 || w.state.CompareAndSwap(old, 0) {
			return true
		}
	}
}

// interrupted is the cause, or causeNone.
func (w *watch) interrupted() cause {
	if v := w.state.Load(); v < checking {
		return cause(-v - 1)
	}
	return causeNone
}

// await waits until the callback is out of onCheck.
func (w *watch) await() {
	w.mu.Lock()
	//lint:ignore SA2001 the callback holds the mutex while it checks
	w.mu.Unlock()
}

// arm makes the timer fire no later than at.
func (w *watch) arm(at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || int64(at) >= w.armed.Load() {
		return
	}
	w.armed.Store(int64(at))
	w.reset(at - w.now())
}

// reset starts the timer; mu is held.
func (w *watch) reset(d time.Duration) {
	d = max(d, 0)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
		return
	}
	w.timer.Reset(d)
}

// fire runs when the timer does: too early, or the deadline has passed.
func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.armed.Store(never)
	for {
		v := w.state.Load()
		if v <= 0 {
			return
		}
		at, c := time.Duration(v>>causeBits), cause(v&causeMask)
		if now := w.now(); at > now {
			w.armed.Store(int64(at))
			w.reset(at - now)
			// Who set an earlier deadline before armed was stored did not arm.
			if next := w.state.Load(); next > 0 && next>>causeBits < int64(at) {
				continue
			}
			return
		}
		if c != causeCheck {
			if w.state.CompareAndSwap(v, -int64(c)-1) {
				w.kick()
				return
			}
			continue
		}
		if w.state.CompareAndSwap(v, checking) {
			w.check()
		}
	}
}

// check runs onCheck; mu is held and the state is checking.
func (w *watch) check() {
	c, again := w.onCheck()
	if c == causeNone {
		w.state.Store(int64(again)<<causeBits | int64(causeCheck))
		return
	}
	w.state.Store(-int64(c) - 1)
	w.kick()
}

// interrupt stops all I/O with a cause, unless it has been.
func (w *watch) interrupt(c cause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halt(c)
}

// halt is interrupt with mu held.
func (w *watch) halt(c cause) {
	for {
		v := w.state.Load()
		if v < checking || w.stopped {
			return
		}
		if w.state.CompareAndSwap(v, -int64(c)-1) {
			w.kick()
			return
		}
	}
}

// interruptIf is interrupt where the deadline in force has the cause only.
func (w *watch) interruptIf(only, c cause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.state.Load()
	if v > 0 && cause(v&causeMask) == only && !w.stopped && w.state.CompareAndSwap(v, -int64(c)-1) {
		w.kick()
	}
}

// kick wakes whoever is in I/O; mu is held. An error means that the connection is
// closed, so nobody waits.
func (w *watch) kick() {
	_ = w.down.SetDeadline(longAgo)
	if w.up != nil {
		_ = w.up.SetDeadline(longAgo)
	}
}

// begin gets a watch ready for another client, after end. A timer of the one before may
// still fire: then it is too early.
// It returns the number of this use, for interruptUse.
func (w *watch) begin(down interruptible) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	w.state.Store(0)
	w.use++
	return w.use
}

// end makes the watch watch nothing. The timer runs on, for the next client.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Store(0)
	w.down, w.up = nil, nil
}

// interruptUse is interrupt for who may come late, when another use has begun.
func (w *watch) interruptUse(use uint64, c cause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.use == use && w.down != nil {
		w.halt(c)
	}
}

// wake wakes whoever is in I/O without a cause, for good: a tunnel whose one direction
// failed.
func (w *watch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kick()
}

// wakeClient is wake for the client's side only.
func (w *watch) wakeClient() { _ = w.down.SetDeadline(longAgo) }

// attach tells what else to interrupt; nil: nothing. It returns false, without
// attaching, when the watch has interrupted: then what was attached may have its
// deadline in the past.
func (w *watch) attach(up interruptible) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = nil
	if w.state.Load() < checking {
		return false
	}
	w.up = up
	return true
}

// resume makes the downstream connection usable again after an interruption.
func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Store(0)
	_ = w.down.SetDeadline(time.Time{})
}

// stop ends the watch.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
