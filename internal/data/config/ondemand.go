package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

var _ OnDemand = (*Store)(nil)

// kindOf is the kind of need that resources of a type answer.
func kindOf(typeURL string) NeedKind {
	return NeedKind(max(slices.Index(needTypes[1:], typeURL)+1, 0))
}

// OnDemandStats tells what is asked for by name.
func (s *Store) OnDemandStats() OnDemandStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.demand.totals()
}

// Look is what is known of a need now; see OnDemand.
func (s *Store) Look(n Need) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, why := s.inquiry(n)
	if q == nil {
		return Answer{Need: n, Outcome: Unavailable, Detail: why}
	}
	q.awaited = q.awaited || !q.answered
	return s.demand.answer(q)
}

// Find asks and waits; see OnDemand.
func (s *Store) Find(ctx context.Context, n Need) Answer {
	ctx, cancel := context.WithTimeout(ctx, s.demand.limits.Timeout)
	defer cancel()
	s.lockInTurn(ctx, n)
	q, why := s.inquiry(n)
	if q == nil {
		s.mu.Unlock()
		return Answer{Need: n, Outcome: Unavailable, Detail: why}
	}
	if q.answered {
		defer s.mu.Unlock()
		return s.demand.answer(q)
	}
	q.waiters++
	s.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiters--
	select {
	case <-q.done:
		return Answer{Need: n, Outcome: q.outcome, Detail: q.detail}
	default:
	}
	return Answer{Need: n, Outcome: Unavailable, Detail: fmt.Sprintf("the control plane did not answer within %s", s.demand.limits.Timeout)}
}

// lockInTurn locks the store when a question that is new may be asked by the rate: whoever
// finds that it is his turn keeps the lock until he has asked, or another would take his
// turn. Where ctx ends before that would be it does not wait.
func (s *Store) lockInTurn(ctx context.Context, n Need) {
	for {
		s.mu.Lock()
		wait := time.Duration(0)
		if s.demand.all[n] == nil {
			wait = s.demand.wait()
		}
		if end, ok := ctx.Deadline(); wait == 0 || ok && time.Until(end) < wait {
			return
		}
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done(): // the deadline is too near for a turn now
			timer.Stop()
			s.mu.Lock()
			return
		}
	}
}

// inquiry is the one about a need, which is asked now where it was not. Where it cannot
// be asked why says so.
func (s *Store) inquiry(n Need) (q *inquiry, why string) {
	if q = s.demand.all[n]; q != nil {
		return q, ""
	}
	if s.subscriber == nil {
		return nil, "there is no control plane"
	}
	n.Name = strings.Clone(n.Name) // of a buffer that is used again
	q, dropped, why := s.demand.admit(n)
	for _, old := range dropped {
		s.dismiss(old)
	}
	if q != nil {
		s.begin(q)
	}
	return q, why
}

// begin asks the control plane.
func (s *Store) begin(q *inquiry) {
	if q.need.Kind != NeedCluster {
		typeURL, name := q.need.Resource()
		s.subscriber.Ask(typeURL, []string{name}, nil)
		return
	}
	s.useCluster(q.need.Name)
	if c := s.named[q.need.Name]; c != nil && c.known { // something else refers to it too
		s.settleCluster(q, c)
		s.publish()
	}
}

// dismiss takes what an inquiry held out of the next configuration, and tells the
// control plane that it is no longer wanted.
func (s *Store) dismiss(q *inquiry) {
	s.unhold(q)
	s.bodies.drop(q.need.Resource())
	if q.need.Kind == NeedCluster {
		s.unuseCluster(q.need.Name)
		return
	}
	typeURL, name := q.need.Resource()
	s.subscriber.Ask(typeURL, nil, []string{name})
}

// unhold takes what an inquiry held out of the next configuration.
func (s *Store) unhold(q *inquiry) {
	for _, name := range q.clusters {
		s.unuseCluster(name)
	}
	q.clusters, q.waiting = nil, false
	delete(s.rewarm, q)
	if q.held == nil {
		return
	}
	s.setHeld(q.need, nil)
	q.held = nil
}

// setHeld changes the next configuration; nil takes away.
func (s *Store) setHeld(n Need, h *Held) {
	s.changed.held = true
	if old, ok := s.held.Get(n); ok && old.Name != nil {
		s.indexName(n.Name, old.Name.Info, false)
	}
	if h == nil {
		s.held = s.held.Without(n)
		return
	}
	if h.Name != nil {
		s.indexName(n.Name, h.Name.Info, true)
	}
	s.held = s.held.With(n, h)
}

// indexName keeps the names by address.
func (s *Store) indexName(name string, info resource.NameInfo, there bool) {
	for _, a := range info.Addresses {
		names, _ := s.heldByIP.Get(a)
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		if there {
			names = append(names, name)
			slices.Sort(names)
		}
		if len(names) == 0 {
			s.heldByIP = s.heldByIP.Without(a)
		} else {
			s.heldByIP = s.heldByIP.With(a, names)
		}
	}
}

// applyHeld takes resources that were asked for by name. Answers to what is no longer
// asked are on their way sometimes; they are nobody's.
func (s *Store) applyHeld(u xds.Update, kind NeedKind) map[string]error {
	errs := map[string]error{}
	for _, r := range u.Changed {
		q := s.demand.all[needOf(kind, r.Name)]
		if q == nil {
			continue
		}
		if err := s.putHeld(q, r.Body); err != nil {
			errs[r.Name] = err
			s.bodies.refused(u.TypeURL, r, err)
			s.log.Warn("resource refused", "type", u.TypeURL, "name", r.Name, "error", err)
			continue
		}
		s.bodies.took(u.TypeURL, r)
	}
	for _, name := range u.Removed {
		if q := s.demand.all[needOf(kind, name)]; q != nil && (q.answered || q.held != nil || q.waiting) {
			s.gone(q)
		}
	}
	for _, name := range u.Absent {
		if q := s.demand.all[needOf(kind, name)]; q != nil {
			s.gone(q)
		}
	}
	return errs
}

// gone: the control plane says that there is no such resource.
func (s *Store) gone(q *inquiry) {
	s.changed.revised = s.changed.revised || q.held != nil
	s.unhold(q)
	s.bodies.drop(q.need.Resource())
	s.settle(q, Absent, "")
}

func (s *Store) settle(q *inquiry, outcome Outcome, detail string) {
	// Others that asked before may have been told otherwise.
	s.changed.revised = s.changed.revised || q.awaited || q.answered && q.outcome != outcome
	q.awaited = false
	if !q.answered {
		s.finished = append(s.finished, q.done)
	}
	if dropped := s.demand.settle(q, outcome, detail); dropped != nil {
		s.dismiss(dropped)
	}
}

// putHeld takes a version of a resource. It is in the configuration when the clusters
// that it refers to are known, or known not to exist.
func (s *Store) putHeld(q *inquiry, body *anypb.Any) error {
	h, clusters, err := s.decodeHeld(q.need, body)
	if err != nil {
		if q.held == nil && !q.waiting {
			s.settle(q, Refused, err.Error())
		}
		return err // the last good version stays
	}
	h.use = q.use
	s.changed.revised = s.changed.revised || q.held != nil
	for _, name := range clusters {
		s.useCluster(name)
	}
	for _, name := range q.clusters {
		s.unuseCluster(name)
	}
	q.held, q.clusters, q.waiting = h, clusters, true
	if s.settleIfReady(q); q.waiting && q.answered {
		s.rewarm[q] = true
	}
	return nil
}

func (s *Store) decodeHeld(n Need, body *anypb.Any) (h *Held, clusters []string, err error) {
	if body == nil {
		return nil, nil, errors.New("no body")
	}
	_, name := n.Resource()
	d := s.decoder(name)
	switch n.Kind {
	case NeedVirtualHost:
		vh, err := d.VirtualHost(s.routes[n.Of], n.Name, body)
		if err != nil {
			return nil, nil, err
		}
		return &Held{VirtualHost: vh}, vh.Clusters(), nil
	case NeedFilterChain:
		chain, err := d.FilterChain(n.Name, body)
		if err != nil {
			return nil, nil, err
		}
		return &Held{FilterChain: chain}, chain.Clusters(), nil
	}
	table, err := d.NameTable(body)
	if err != nil {
		return nil, nil, err
	}
	for key, info := range table.Names {
		if len(table.Names) == 1 && match.Host(key, n.Name) {
			return &Held{Name: &HeldName{Key: key, Info: info}}, nil, nil
		}
	}
	return nil, nil, fmt.Errorf("a name table for %q has %d entries, want the one for this name", n.Name, len(table.Names))
}

// settleIfReady answers an inquiry when all that it refers to is known.
func (s *Store) settleIfReady(q *inquiry) {
	if !q.waiting {
		return
	}
	for _, name := range q.clusters {
		if c := s.named[name]; c != nil && !c.known {
			return
		}
	}
	q.waiting = false
	s.setHeld(q.need, q.held)
	if !q.answered || q.outcome != Found {
		s.settle(q, Found, "")
	}
}

// applyNames takes the name table, or on demand entries of it.
func (s *Store) applyNames(u xds.Update) map[string]error {
	if !s.onDemand {
		errs := s.each(u, s.putNames)
		if len(u.Removed) > 0 && len(u.Changed) == 0 {
			s.names, s.changed.names = nil, true
		}
		return errs
	}
	entries, table := u, xds.Update{TypeURL: u.TypeURL}
	entries.Changed = nil
	for _, r := range u.Changed {
		if r.Name == "" {
			table.Changed = append(table.Changed, r)
		} else {
			entries.Changed = append(entries.Changed, r)
		}
	}
	if slices.Contains(u.Removed, "") {
		s.names, s.changed.names = nil, true
	}
	errs := s.applyHeld(entries, NeedName)
	maps.Copy(errs, s.each(table, s.putNames))
	return errs
}
