package sds

import (
	"context"
	"sync"
	"time"
)

// Account is a service account: who a proxy has proven to be.
type Account struct{ Namespace, Name string }

// Reviewer asks whether an account may list the Secrets of its namespace (SubjectAccessReview);
// why is what is said of a refusal. An error says that there is no answer.
type Reviewer func(ctx context.Context, a Account) (allowed bool, why string, err error)

// How long answers count, as in istiod: a permission that was given is noticed within a
// minute, one that was taken within five.
const (
	allowedLife = 5 * time.Minute
	deniedLife  = time.Minute
	// retryPause is the time until it is asked again after no answer has come.
	retryPause    = 5 * time.Second
	reviewTimeout = 10 * time.Second
)

// access knows which accounts may list the Secrets of their namespace. It asks about those
// that somebody holds, and again when an answer is old. Without a new answer the old one
// stays: an API server that is away takes no certificate from a gateway.
type access struct {
	review  Reviewer
	changed func()
	now     func() time.Time
	wake    chan struct{}

	mu       sync.Mutex
	accounts map[Account]*verdict
}

type verdict struct {
	users   int
	known   bool
	allowed bool
	why     string
	due     time.Time // when to ask; zero: now
}

func newAccess(review Reviewer, changed func()) *access {
	return &access{review: review, changed: changed, now: time.Now, wake: make(chan struct{}, 1), accounts: map[Account]*verdict{}}
}

// hold keeps asking about an account, until release.
func (a *access) hold(who Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.accounts[who]
	if v == nil {
		v = &verdict{}
		a.accounts[who] = v
		poke(a.wake)
	}
	v.users++
}

func (a *access) release(who Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.accounts[who]; v != nil {
		if v.users--; v.users == 0 {
			delete(a.accounts, who)
		}
	}
}

// may says whether an account that is held may list Secrets; known is false until it has been
// answered once.
func (a *access) may(who Account) (allowed, known bool, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.accounts[who]
	if v == nil {
		return false, false, ""
	}
	return v.allowed, v.known, v.why
}

// run asks until ctx ends, one question at a time.
func (a *access) run(ctx context.Context) {
	for {
		who, at := a.next()
		pause := time.NewTimer(at.Sub(a.now()))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-a.wake:
			pause.Stop()
			continue
		case <-pause.C:
		}
		if who != (Account{}) {
			a.ask(ctx, who)
		}
	}
}

// next is who to ask about next, and when. Without anybody it is nobody, some time later.
func (a *access) next() (who Account, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at = a.now().Add(time.Hour)
	for one, v := range a.accounts {
		if v.due.Before(at) {
			who, at = one, v.due
		}
	}
	return who, at
}

func (a *access) ask(ctx context.Context, who Account) {
	asking, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	allowed, why, err := a.review(asking, who)
	a.mu.Lock()
	v := a.accounts[who]
	if v == nil {
		a.mu.Unlock()
		return
	}
	before := *v
	switch {
	case err != nil:
		v.due = a.now().Add(retryPause)
		if !v.known {
			v.why = "the API server does not say whether it may: " + err.Error()
		}
	case allowed:
		v.known, v.allowed, v.why, v.due = true, true, "", a.now().Add(allowedLife)
	default:
		v.known, v.allowed, v.why, v.due = true, false, why, a.now().Add(deniedLife)
	}
	differs := before.known != v.known || before.allowed != v.allowed || before.why != v.why
	a.mu.Unlock()
	if differs {
		a.changed()
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
