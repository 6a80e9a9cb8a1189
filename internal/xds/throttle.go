package xds

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// slot waits for the right to compute; free gives it back.
func (s *Server) slot(ctx context.Context) error {
	select {
	case s.parallel <- struct{}{}:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) free() { <-s.parallel }

// Bounds on what is sent at a time.
const (
	// window is how much of a type may be on its way to a client: when it is that many bytes
	// or more, the client must answer before more is sent. It is no more than what gRPC
	// takes without waiting for the client to read (64 KiB), so a response more at most.
	window = 64 << 10
	// turns is how many clients may be given all that they want at a time: so many are
	// the large responses in memory when all proxies come at once.
	turns = 32
	// turnTime is how long a client that does not answer keeps its turn.
	turnTime = 10 * time.Second
	// manyNames is from how many names on a subscription is as good as one to all.
	manyNames = 1000
)

// turn is the right to be sent everything.
type turn struct {
	once  sync.Once
	turns chan struct{}
	timer *time.Timer
}

// end gives the turn back, if there is one and that was not done before.
func (t *turn) end() {
	if t != nil {
		t.once.Do(func() { <-t.turns })
		t.timer.Stop()
	}
}

// awaitTurn waits until the stream may be sent all that its client wants, if it is so much:
// after its start, and when everything changed.
func (s *stream) awaitTurn(ctx context.Context) error {
	s.mu.Lock()
	need := s.turn == nil && s.large()
	s.mu.Unlock()
	if !need {
		return nil
	}
	select {
	case s.server.turns <- struct{}{}:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.server.closed:
		return nil // run ends the stream
	}
	t := &turn{turns: s.server.turns}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.timer = time.AfterFunc(turnTime, func() { t.once.Do(func() { <-t.turns }) })
	s.turn = t
	return nil
}

// large says whether the client may be about to get very much.
func (s *stream) large() bool {
	for _, sub := range s.subs {
		if sub.every && sub.isDue() && (sub.wildcard || sub.held.named >= manyNames) {
			return true
		}
	}
	return false
}
