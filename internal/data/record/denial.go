package record

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Denial is one refusal, told to subscribers. It shares nothing with the Entry.
type Denial struct {
	Time     time.Time // when it was recorded
	Reason   reason.Reason
	Detail   string
	Protocol Protocol
	// Host and Port are the destination that was refused: Entry.Host, and the port of
	// the address that the workload called.
	Host    string
	Port    uint16
	Method  string // HTTP only
	Path    string // HTTP only
	Source  string // "ip:port" of the workload
	Objects []resource.Object
	// Missed is how many denials this subscriber lost just before this one, since
	// it did not read fast enough.
	Missed uint64
}

// denialQueue is how many denials wait for a subscriber before they are lost to it.
const denialQueue = 256

// subscribers hands denials out without ever waiting for anybody.
type subscribers struct {
	mu    sync.Mutex
	all   []*subscriber
	count atomic.Int32 // len(all): no lock and no copy where nobody listens
}

type subscriber struct {
	c      chan Denial
	missed uint64
}

func (s *subscribers) add() (<-chan Denial, func()) {
	sub := &subscriber{c: make(chan Denial, denialQueue)}
	s.mu.Lock()
	s.all = append(s.all, sub)
	s.count.Store(int32(len(s.all)))
	s.mu.Unlock()
	return sub.c, func() { s.remove(sub) }
}

// remove ends a subscription; its channel is closed. A second call does nothing.
func (s *subscribers) remove(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, sub); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
		s.count.Store(int32(len(s.all)))
		close(sub.c)
	}
}

func (s *subscribers) tell(e *Entry, host string, now time.Time) {
	if s.count.Load() == 0 {
		return
	}
	d := Denial{
		Time: now, Reason: e.Reason, Detail: strings.Clone(e.Detail), Protocol: e.Protocol,
		Host: strings.Clone(host), Port: e.DownstreamLocal.Port(),
		Method: strings.Clone(e.Method), Path: strings.Clone(e.Path),
		Objects: slices.Clone(e.Objects),
	}
	if e.DownstreamRemote.IsValid() {
		d.Source = e.DownstreamRemote.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.all {
		d.Missed = sub.missed
		select {
		case sub.c <- d:
			sub.missed = 0
		default:
			sub.missed++
		}
	}
}

func (s *subscribers) closeAll() {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	for _, sub := range all {
		s.remove(sub)
	}
}
