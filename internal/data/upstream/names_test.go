package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testNames(t *testing.T, z *zone) *names {
	ctx, cancel := context.WithCancel(context.Background())
	start := time.Now()
	n := newNames(ctx, z, slog.New(slog.DiscardHandler), func() int64 { return int64(time.Since(start)) + 1 })
	t.Cleanup(func() { cancel(); n.close() })
	return n
}

func first1(t *testing.T, n *names, name string) string {
	t.Helper()
	a, err := n.get(context.Background(), nameKey{name, FamilyAny}, 0)
	if err != nil {
		return err.Error()
	}
	return a.addrs[0].String()
}

func TestNamesRespectTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: time.Minute}
		z.set("x.example", "192.0.2.1")
		n := testNames(t, z)
		for range 3 {
			if got := first1(t, n, "x.example"); got != "192.0.2.1" {
				t.Fatal(got)
			}
		}
		if z.count() != 1 {
			t.Errorf("%d lookups, want 1", z.count())
		}
		z.set("x.example", "192.0.2.2")
		pass(61 * time.Second)
		if got := first1(t, n, "x.example"); got != "192.0.2.1" {
			t.Errorf("just expired: got %s, want the old answer while it is refreshed", got)
		}
		synctest.Wait()
		if got := first1(t, n, "x.example"); got != "192.0.2.2" {
			t.Errorf("after the refresh in the background: %s", got)
		}
		z.set("x.example", "192.0.2.3")
		pass(5 * time.Minute)
		if got := first1(t, n, "x.example"); got != "192.0.2.3" {
			t.Errorf("long expired: got %s, want a new lookup", got)
		}
	})
}

func TestNamesBoundTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: 0}
		z.set("x.example", "192.0.2.1")
		n := testNames(t, z)
		first1(t, n, "x.example")
		pass(minTTL / 2)
		first1(t, n, "x.example")
		if z.count() != 1 {
			t.Errorf("a TTL of 0 is looked up %d times within %s", z.count(), minTTL)
		}
		z.ttl = 365 * 24 * time.Hour
		z.set("y.example", "192.0.2.1")
		first1(t, n, "y.example")
		pass(maxTTL + 10*time.Minute)
		first1(t, n, "y.example")
		if z.count() != 3 {
			t.Errorf("%d lookups, want 3: TTLs end at %s", z.count(), maxTTL)
		}
	})
}

func TestNamesServeStaleWhenDNSFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: 10 * time.Second}
		z.set("x.example", "192.0.2.1")
		n := testNames(t, z)
		first1(t, n, "x.example")
		z.fail(errors.New("network is unreachable"))
		pass(time.Minute)
		before := z.count()
		for range 5 {
			if got := first1(t, n, "x.example"); got != "192.0.2.1" {
				t.Fatalf("DNS failed: got %q, want the old answer", got)
			}
		}
		if z.count() != before+1 {
			t.Errorf("%d lookups in a row while DNS fails, want 1", z.count()-before)
		}
		pass(staleLimit)
		if got := first1(t, n, "x.example"); got == "192.0.2.1" {
			t.Error("an answer is used longer than it may be stale")
		}
	})
}

func TestNamesDoNotServeStaleWhenTheNameIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: 10 * time.Second}
		z.set("x.example", "192.0.2.1")
		n := testNames(t, z)
		first1(t, n, "x.example")
		z.fail(fmt.Errorf("%w", ErrNoSuchName))
		pass(time.Minute)
		if got := first1(t, n, "x.example"); got == "192.0.2.1" {
			t.Error("the name does not exist any more, but its old address is used")
		}
		before := z.count()
		first1(t, n, "x.example")
		if z.count() != before {
			t.Error("that a name does not exist is not remembered")
		}
		z.fail(nil)
		pass(negativeTTL)
		if got := first1(t, n, "x.example"); got != "192.0.2.1" {
			t.Errorf("the name is back: %s", got)
		}
	})
}

func TestNamesLookUpOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: time.Minute, wait: make(chan struct{})}
		z.set("x.example", "192.0.2.1")
		n := testNames(t, z)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := first1(t, n, "x.example"); got != "192.0.2.1" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		close(z.wait)
		wg.Wait()
		if z.count() != 1 {
			t.Errorf("%d lookups for 50 who asked", z.count())
		}
	})
}

func TestNamesGiveUpWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: time.Minute, wait: make(chan struct{})}
		n := testNames(t, z)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.get(ctx, nameKey{"x.example", FamilyAny}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestNamesBoundLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{ttl: time.Minute, wait: make(chan struct{})}
		n := testNames(t, z)
		for i := range maxWaiting {
			n.begin(nameKey{fmt.Sprintf("n%d.example", i), FamilyAny}, 0)
		}
		synctest.Wait()
		if z.count() != maxLookups {
			t.Errorf("%d lookups at the same time, want %d", z.count(), maxLookups)
		}
		if got := first1(t, n, "one.more.example"); got != errTooManyLookups.Error() {
			t.Errorf("got %q", got)
		}
		close(z.wait)
	})
}

func TestNamesBoundMemory(t *testing.T) {
	z := &zone{ttl: time.Hour}
	n := testNames(t, z)
	for i := range 3 * maxNames {
		first1(t, n, fmt.Sprintf("n%d.example", i))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.entries) > maxNames {
		t.Errorf("%d names are kept", len(n.entries))
	}
}
