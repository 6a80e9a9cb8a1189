package upstream

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/runtest"
)

// limited is a cluster whose default priority has the thresholds; the other has none.
func limited(t resource.Thresholds, eps ...string) *config.Cluster {
	c := cluster("c", resource.DiscoveryStatic, eps...)
	c.Breakers = &[2]resource.Thresholds{t, unlimited()}
	return c
}

func unlimited() resource.Thresholds {
	return resource.Thresholds{
		MaxConnections: resource.NoLimit, MaxPendingRequests: resource.NoLimit,
		MaxRequests: resource.NoLimit, MaxRetries: resource.NoLimit,
	}
}

func wantOverflow(t *testing.T, err *Error) {
	t.Helper()
	if err == nil || err.Reason != reason.UpstreamOverflow || err.Flag != "UO" {
		t.Errorf("err = %v, want an overflow", err)
	}
}

func TestMaxRequestsCountsByPriority(t *testing.T) {
	m := manager(t, Options{})
	limits := unlimited()
	limits.MaxRequests = 2
	c := limited(limits, "192.0.2.1:80")
	h := pick(t, m, c, nil)
	h.Begin(resource.PriorityDefault)
	h.Begin(resource.PriorityDefault)
	_, err := m.Pick(t.Context(), c, nil, nil)
	wantOverflow(t, err)
	pick(t, m, c, &Target{Priority: resource.PriorityHigh}).Begin(resource.PriorityHigh)
	h.End(resource.PriorityHigh)
	h.End(resource.PriorityDefault)
	pick(t, m, c, nil)
	h.End(resource.PriorityDefault)
	if h.Active() != 0 {
		t.Errorf("%d active", h.Active())
	}
}

func TestMaxConnections(t *testing.T) {
	m := manager(t, Options{})
	limits := unlimited()
	limits.MaxConnections = 1
	c := limited(limits, listen(t, hello).String(), listen(t, hello).String())
	first, host, err := m.Connect(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, _, err := m.Connect(t.Context(), c, nil); true {
		wantOverflow(t, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = m.Dial(ended, c, host, nil, nil)
	wantOverflow(t, err)

	// A host without any connection may have one for a request.
	other := pick(t, m, c, nil, host)
	second, err := m.Dial(t.Context(), c, other, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	other.Closed(resource.PriorityDefault)
	host.Closed(resource.PriorityDefault)
	third, h, err := m.Connect(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
	h.Closed(resource.PriorityDefault)
}

// One connection is allowed, and it is busy: requests wait, and each gets its turn when
// it is idle or closed.
func TestRequestsWaitForAConnection(t *testing.T) {
	m := manager(t, Options{})
	limits := unlimited()
	limits.MaxConnections, limits.MaxPendingRequests = 1, 2
	c := limited(limits, listen(t, hello).String())
	h := pick(t, m, c, nil)
	first, err := m.Dial(t.Context(), c, h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var idle atomic.Bool
	type outcome struct {
		conn net.Conn
		err  *Error
	}
	done := make(chan outcome)
	for range 2 {
		go func() {
			conn, err := m.Dial(context.Background(), c, h, nil, func() bool { return idle.CompareAndSwap(true, false) })
			done <- outcome{conn, err}
		}()
	}
	q := &m.all()[0].queue
	runtest.Eventually(t, "both wait", func() bool { return q.waiting.Load() == 2 })
	_, err = m.Dial(t.Context(), c, h, nil, nil)
	wantOverflow(t, err)

	idle.Store(true)
	h.Idle()
	if got := <-done; got.conn != nil || got.err != nil {
		t.Errorf("got %v, %v, want the idle connection", got.conn, got.err)
	}
	first.Close()
	h.Closed(resource.PriorityDefault)
	got := <-done
	if got.conn == nil {
		t.Fatal(got.err)
	}
	got.conn.Close()
	h.Closed(resource.PriorityDefault)
	if n := q.waiting.Load(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// A call that comes when the waiter has just given up wakes the next one.
func TestACallIsPassedOn(t *testing.T) {
	var q queue
	h := testHosts("a")[0]
	first, second := q.join(h), q.join(h)
	q.call(nil)
	q.leave(first, false)
	select {
	case <-second.wake:
	default:
		t.Error("nobody is woken")
	}
	q.leave(second, true)
	if len(q.list) != 0 || q.waiting.Load() != 0 {
		t.Errorf("%d are left", len(q.list))
	}
}

func TestAFailedConnectionDoesNotCount(t *testing.T) {
	limits := unlimited()
	limits.MaxConnections = 1
	c := limited(limits, "192.0.2.1:80")
	m := manager(t, Options{Dialer: dialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed })})
	for range 3 {
		if _, _, err := m.Connect(t.Context(), c, nil); err == nil || err.Reason != reason.UpstreamConnectFailed {
			t.Fatalf("err = %v", err)
		}
	}
}

func TestMaxPendingRequests(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	m := manager(t, Options{Dialer: dialFunc(func(context.Context, string, string) (net.Conn, error) {
		entered <- struct{}{}
		<-leave
		return nil, net.ErrClosed
	})})
	limits := unlimited()
	limits.MaxPendingRequests = 1
	c := limited(limits, "192.0.2.1:80")
	h := pick(t, m, c, nil)
	done := make(chan *Error)
	go func() {
		_, err := m.Dial(context.Background(), c, h, nil, nil)
		done <- err
	}()
	<-entered
	_, err := m.Dial(t.Context(), c, h, nil, nil)
	wantOverflow(t, err)
	close(leave)
	if err := <-done; err.Reason != reason.UpstreamConnectFailed {
		t.Error(err)
	}
}

func TestRetriesAreAdmitted(t *testing.T) {
	m := manager(t, Options{})
	limits := unlimited()
	limits.MaxRetries = 2
	c := limited(limits, "192.0.2.1:80")
	var slots []RetrySlot
	for i := range 3 {
		slot, ok := m.AdmitRetry(c, resource.PriorityDefault)
		if ok != (i < 2) {
			t.Errorf("retry %d: %v", i, ok)
		}
		slots = append(slots, slot)
	}
	if _, ok := m.AdmitRetry(c, resource.PriorityHigh); !ok {
		t.Error("the other priority is limited too")
	}
	for range 2 { // a second Release changes nothing
		for i := range slots {
			slots[i].Release()
		}
	}
	for i := range 3 {
		if _, ok := m.AdmitRetry(c, resource.PriorityDefault); ok != (i < 2) {
			t.Errorf("after the release: retry %d: %v", i, ok)
		}
	}
}

func TestRetryBudget(t *testing.T) {
	tests := []struct {
		budget resource.RetryBudget
		active int
		want   int
	}{
		{resource.RetryBudget{Percent: 20, MinConcurrency: 3}, 0, 3},
		{resource.RetryBudget{Percent: 20, MinConcurrency: 3}, 50, 10},
		{resource.RetryBudget{Percent: 100}, 7, 7},
		{resource.RetryBudget{}, 100, 0},
	}
	for _, tt := range tests {
		m := manager(t, Options{})
		c := limited(resource.Thresholds{MaxRequests: resource.NoLimit, RetryBudget: &tt.budget}, "192.0.2.1:80")
		h := pick(t, m, c, nil)
		for range tt.active {
			h.Begin(resource.PriorityDefault)
		}
		got := 0
		for range 200 {
			if _, ok := m.AdmitRetry(c, resource.PriorityDefault); ok {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%+v with %d active: %d retries, want %d", tt.budget, tt.active, got, tt.want)
		}
	}
}
