package http

import (
	"container/list"
	"sync"
)

// heads bounds the memory of request heads that are not finished. Most heads fit a
// small buffer and are not counted. When the large ones together hold more than the
// limit, the one that began first is given up: a head that is being sent takes
// milliseconds, so the old ones are those of clients that do not mean to finish.
type heads struct {
	most int // bytes

	mu    sync.Mutex
	held  int
	order list.List // of *session, in the order in which they became large
}

// grow counts a session whose head needs a buffer of so many bytes.
func (h *heads) grow(s *session, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.large == nil {
		s.large = h.order.PushBack(s)
	}
	h.held += bytes - s.holds
	s.holds = bytes
	for h.held > h.most {
		oldest := h.order.Front().Value.(*session)
		h.drop(oldest)
		oldest.watch.interrupt(causeCrowded)
	}
}

// finished forgets a session: its head is whole, or given up.
func (h *heads) finished(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(s)
}

// drop is finished with the lock held.
func (h *heads) drop(s *session) {
	if s.large == nil {
		return
	}
	h.order.Remove(s.large)
	h.held -= s.holds
	s.large, s.holds = nil, 0
}
