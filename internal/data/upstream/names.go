package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the name cache.
const (
	minTTL        = time.Second
	maxTTL        = time.Hour
	negativeTTL   = 5 * time.Second  // the name does not exist
	failureTTL    = time.Second      // DNS did not work
	staleGrace    = 30 * time.Second // at most so old while a refresh is under way
	staleLimit    = 10 * time.Minute // at most so long after expiry when DNS fails
	lookupTimeout = 10 * time.Second
	maxLookups    = 64   // at the same time
	maxWaiting    = 1024 // lookups begun, with those that wait for a turn
	maxNames      = 8192 // kept
)

// errTooManyLookups is given to who would begin lookup number maxWaiting+1.
var errTooManyLookups = errors.New("too many name lookups under way")

// answer is what is known of a name. It never changes.
type answer struct {
	addrs []netip.Addr
	err   error // addrs is empty
	at    int64 // Manager.now when it was looked up
	ttl   time.Duration
	// retryAt is set on an old answer that is kept because DNS failed: until then
	// it is given out without a new attempt.
	retryAt int64
}

// expires is when the answer is too old, for a user who bounds the age himself
// (life > 0) or respects the TTL.
func (a *answer) expires(life time.Duration) int64 {
	if a.err != nil || life <= 0 {
		life = a.ttl
	}
	return max(a.at+int64(life), a.retryAt)
}

type nameKey struct {
	name   string
	family Family
}

type nameEntry struct {
	answer *answer
	flight *flight
	used   int64
}

// flight is one lookup under way; answer is set before done is closed.
type flight struct {
	done   chan struct{}
	answer *answer
}

// names looks names up once for everybody who asks, and remembers.
type names struct {
	resolver Resolver
	log      *slog.Logger
	now      func() int64
	ctx      context.Context
	turn     chan struct{} // holds maxLookups tokens
	wg       sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting int
	entries map[nameKey]*nameEntry
}

func newNames(ctx context.Context, r Resolver, log *slog.Logger, now func() int64) *names {
	return &names{
		resolver: r, log: log, now: now, ctx: ctx,
		turn:    make(chan struct{}, maxLookups),
		entries: map[nameKey]*nameEntry{},
	}
}

// get returns what is known of a name, looking it up when nothing usable is. The
// returned answer has no error. life > 0 is used in place of the TTL.
func (n *names) get(ctx context.Context, key nameKey, life time.Duration) (*answer, error) {
	a, f := n.begin(key, life)
	if f == nil {
		return a, a.err
	}
	select {
	case <-f.done:
		return f.answer, f.answer.err
	case <-ctx.Done():
		return nil, fmt.Errorf("looking up %q: %w", key.name, context.Cause(ctx))
	}
}

// begin returns an answer that may be used now, or the lookup to wait for. An
// answer that expired a short while ago is used and refreshed in the background.
func (n *names) begin(key nameKey, life time.Duration) (*answer, *flight) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	e := n.entry(key)
	e.used = now
	a := e.answer
	if a != nil && now < a.expires(life) {
		return a, nil
	}
	if e.flight == nil && (n.closed || n.waiting >= maxWaiting) {
		if a != nil && now < a.staleUntil() {
			return a, nil
		}
		return &answer{err: errTooManyLookups, at: now}, nil
	}
	if e.flight == nil {
		e.flight = &flight{done: make(chan struct{})}
		n.waiting++
		f := e.flight
		n.wg.Go(func() { n.fly(key, e, f) })
	}
	if a != nil && a.err == nil && now < a.expires(life)+min(int64(a.ttl), int64(staleGrace)) {
		return a, nil
	}
	return nil, e.flight
}

// entry finds or makes the entry; n.mu is held. When there are too many, the
// longest unused of a few (maps are walked in random order) makes room.
func (n *names) entry(key nameKey) *nameEntry {
	if e := n.entries[key]; e != nil {
		return e
	}
	if len(n.entries) >= maxNames {
		var oldest nameKey
		var found *nameEntry
		seen := 0
		for k, e := range n.entries {
			if e.flight == nil && (found == nil || e.used < found.used) {
				oldest, found = k, e
			}
			if seen++; seen >= 16 && found != nil {
				break
			}
		}
		delete(n.entries, oldest)
	}
	e := &nameEntry{}
	n.entries[key] = e
	return e
}

// fly does one lookup and stores its result.
func (n *names) fly(key nameKey, e *nameEntry, f *flight) {
	ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
	defer cancel()
	a := n.lookup(ctx, key)

	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting--
	e.flight = nil
	if old := e.answer; a.err != nil && !notFound(a.err) && old != nil && old.err == nil && a.at < old.staleUntil() {
		n.log.Warn("name lookup failed, the old answer stays in use", "name", key.name, "error", a.err)
		kept := *old
		kept.retryAt = a.at + int64(failureTTL)
		a = &kept
	}
	e.answer, f.answer = a, a
	close(f.done)
}

// lookup asks the resolver, waiting for one of maxLookups turns.
func (n *names) lookup(ctx context.Context, key nameKey) *answer {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return &answer{err: errTooManyLookups, at: n.now(), ttl: failureTTL}
	}
	addrs, ttl, err := n.resolver.Lookup(ctx, key.name, key.family)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%q: %w", key.name, ErrNoAddress)
	}
	a := &answer{addrs: addrs, err: err, at: n.now(), ttl: min(max(ttl, minTTL), maxTTL)}
	if err != nil {
		n.log.Debug("name lookup failed", "name", key.name, "error", err)
		a.addrs, a.ttl = nil, failureTTL
		if notFound(err) {
			a.ttl = negativeTTL
		}
	}
	return a
}

// staleUntil is how long an answer may replace a failure.
func (a *answer) staleUntil() int64 {
	if a.err != nil {
		return 0
	}
	return a.at + int64(a.ttl) + int64(staleLimit)
}

func notFound(err error) bool { return errors.Is(err, ErrNoSuchName) || errors.Is(err, ErrNoAddress) }

// close refuses new lookups and waits for those under way; the context that the
// names were made with must be done.
func (n *names) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
