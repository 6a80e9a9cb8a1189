package identity

import (
	"container/list"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// Review is what an API server says of a token (authentication.k8s.io/v1, TokenReviewStatus).
type Review struct {
	Authenticated bool
	User          string
	Audiences     []string
	Error         string // why it is not authenticated
}

// Reviewer asks an API server about a token that must be for one of the audiences. An error
// says that there is no answer.
type Reviewer func(ctx context.Context, token string, audiences []string) (Review, error)

// Bounds of Reviews.
const (
	// reviewLife is how long an answer counts. So long a token may be used after its pod was
	// deleted.
	reviewLife  = 30 * time.Second
	maxReviews  = 4096
	maxAsking   = 64
	askTimeout  = 10 * time.Second
	waitForTurn = 5 * time.Second
)

// Reviews asks about tokens and remembers the answers for 30 s, by a hash. At most 4096 are
// kept, and 64 questions asked at a time.
type Reviews struct {
	ask      Reviewer
	audience string
	now      func() time.Time
	asking   chan struct{}

	mu    sync.Mutex
	known map[[sha256.Size]byte]*list.Element
	order *list.List // of *answer, the oldest first
}

type answer struct {
	key     [sha256.Size]byte
	user    string
	refusal *Refusal
	until   time.Time
}

// NewReviews makes Reviews of tokens for an audience (Istio's is istio-ca).
func NewReviews(ask Reviewer, audience string) *Reviews {
	return &Reviews{
		ask: ask, audience: audience, now: time.Now, asking: make(chan struct{}, maxAsking),
		known: map[[sha256.Size]byte]*list.Element{}, order: list.New(),
	}
}

// user is whose token it is.
func (r *Reviews) user(ctx context.Context, token string) (string, *Refusal) {
	key := sha256.Sum256([]byte(token))
	if a := r.lookUp(key); a != nil {
		return a.user, a.refusal
	}
	turn := time.NewTimer(waitForTurn)
	defer turn.Stop()
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return "", refuse(TokenUnchecked, "%v", ctx.Err())
	case <-turn.C:
		return "", refuse(TooManyReviews, "%d are under way", maxAsking)
	}
	if a := r.lookUp(key); a != nil {
		return a.user, a.refusal // another call has asked meanwhile
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	review, err := r.ask(asking, token, []string{r.audience})
	if err != nil {
		return "", refuse(TokenUnchecked, "the API server: %v", err)
	}
	user, refusal := r.judge(review)
	r.remember(&answer{key: key, user: user, refusal: refusal, until: r.now().Add(reviewLife)})
	return user, refusal
}

func (r *Reviews) judge(review Review) (string, *Refusal) {
	switch {
	case !review.Authenticated && review.Error != "":
		return "", refuse(TokenRejected, "the API server says: %.300s", review.Error)
	case !review.Authenticated:
		return "", refuse(TokenRejected, "the API server does not know the token")
	case !slices.Contains(review.Audiences, r.audience):
		// An API server that does not know audiences answers with none.
		return "", refuse(TokenAudience, "it is for %.200q, not %q", review.Audiences, r.audience)
	}
	return review.User, nil
}

func (r *Reviews) lookUp(key [sha256.Size]byte) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.known[key]
	if e == nil {
		return nil
	}
	a := e.Value.(*answer)
	if !r.now().Before(a.until) {
		r.forget(e)
		return nil
	}
	return a
}

func (r *Reviews) remember(a *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[a.key]; e != nil {
		r.forget(e)
	}
	for e := r.order.Front(); e != nil && (r.order.Len() >= maxReviews || !r.now().Before(e.Value.(*answer).until)); e = r.order.Front() {
		r.forget(e)
	}
	r.known[a.key] = r.order.PushBack(a)
}

func (r *Reviews) forget(e *list.Element) {
	delete(r.known, e.Value.(*answer).key)
	r.order.Remove(e)
}
