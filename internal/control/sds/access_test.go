package sds

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judge answers as a test wants it.
type judge struct {
	mu      sync.Mutex
	allowed bool
	err     error
	asked   int
}

func (j *judge) review(context.Context, Account) (bool, string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked++
	return j.allowed, "no RBAC policy matched", j.err
}

func (j *judge) set(allowed bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.allowed, j.err = allowed, err
}

// Answers count for a while; without a new one the old one stays, whichever it is.
func TestAccess(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	j, who := &judge{err: errors.New("connection refused")}, Account{"apps", "web"}
	changes := 0
	a := newAccess(j.review, func() { changes++ })
	a.now = func() time.Time { return now }
	if _, known, _ := a.may(who); known {
		t.Error("known without being held")
	}
	a.hold(who)
	a.hold(who)
	step := func(what string, later time.Duration, asks, allowed, known bool) {
		t.Helper()
		now = now.Add(later)
		one, at := a.next()
		if due := !at.After(now); due != asks || due && one != who {
			t.Errorf("%s: to be asked %v, about %v", what, due, one)
		} else if due {
			a.ask(t.Context(), who)
		}
		if got, is, why := a.may(who); got != allowed || is != known || !got && is && why == "" {
			t.Errorf("%s: allowed %v, known %v (%s); want %v, %v", what, got, is, why, allowed, known)
		}
	}
	step("the API server is away", 0, true, false, false)
	j.set(false, nil)
	step("it is back, but it is not time", time.Second, false, false, false)
	step("it says no", retryPause, true, false, true)
	j.set(true, nil)
	step("a role is given", time.Second, false, false, true)
	step("which is noticed within a minute", deniedLife, true, true, true)
	j.set(false, errors.New("connection refused"))
	step("it goes away again", allowedLife, true, true, true)
	j.set(false, nil)
	step("the role was taken away", retryPause, true, false, true)
	if changes != 4 {
		t.Errorf("%d changes were told, not 4", changes)
	}
	a.release(who)
	if _, known, _ := a.may(who); !known {
		t.Error("forgotten while it is held")
	}
	a.release(who)
	if one, _ := a.next(); one != (Account{}) || len(a.accounts) > 0 {
		t.Error("it is remembered after the last let it go")
	}
}
