package xds

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is one client's stream at the server. One goroutine reads and changes the
// subscriptions, one computes and sends; so a client that does not read holds up
// only itself, and what it misses meanwhile costs no memory: the next response is
// made when the client has answered enough of those before (window).
type stream struct {
	server *Server
	wire   serverWire
	delta  bool
	remote string
	admit  func(*corev3.Node) error // nil: everybody
	since  time.Time
	wake   chan struct{} // one pending flag

	mu     sync.Mutex // guards what follows
	node   *corev3.Node
	subs   map[string]*subscription
	order  []string // the types of subs, in push order
	failed string
	turn   *turn // nil: it has none

	// Only the sending goroutine uses these.
	view     View
	sequence uint64 // of the view's state that the subscriptions have looked at
	replaced State  // what state took the place of, for a state-of-the-world client
	state    State
}

func newStream(s *Server, wire serverWire, delta bool) *stream {
	return &stream{
		server: s, wire: wire, delta: delta, since: time.Now(),
		wake: make(chan struct{}, 1), subs: map[string]*subscription{},
	}
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) run(ctx context.Context) error {
	defer s.leave()
	ended := make(chan error, 1)
	go func() { ended <- s.read() }()
	for {
		select {
		case err := <-ended:
			return err
		case <-s.server.closed:
			return status.Error(codes.Unavailable, "the control plane is shutting down")
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.wake:
		}
		if err := s.push(ctx); err != nil {
			return err
		}
	}
}

// read takes requests until the stream ends. Closing its half ends a client's stream.
func (s *stream) read() error {
	for {
		r, err := s.wire.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		more, err := s.handle(r)
		if err != nil {
			return err
		}
		if more {
			s.poke()
		}
	}
}

// handle takes one request into the subscriptions; true when there may be something to
// send. An error is a violation of the protocol, as a gRPC status; it ends the stream.
func (s *stream) handle(r *request) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		if r.node.GetId() == "" {
			return false, status.Error(codes.InvalidArgument, "the first request of a stream must have a node with an id")
		}
		if s.admit != nil {
			if err := s.admit(r.node); err != nil {
				return false, err
			}
		}
		s.node = r.node
	}
	if r.typeURL == "" {
		return false, status.Error(codes.InvalidArgument, "type_url is required on an aggregated stream")
	}
	sub := s.subs[r.typeURL]
	if sub == nil {
		if len(s.subs) >= maxTypes {
			return false, status.Errorf(codes.ResourceExhausted, "no more than %d types on one stream", maxTypes)
		}
		sub = newSubscription(r.typeURL, s.delta)
		s.subs[r.typeURL] = sub
		s.order = slices.SortedFunc(maps.Keys(s.subs), comparePushOrder)
		sub.open(r)
		s.forgetWarming(sub)
	} else {
		sub.next(r)
	}
	if r.refused {
		s.server.log.Warn("xDS resource refused", "node", s.node.GetId(), "type", r.typeURL,
			"nonce", r.nonce, "message", truncate(r.problem, maxMessage))
	}
	if len(r.names)+len(r.subscribe)+len(r.unsubscribe)+len(r.initial) > 0 && s.size() > maxNamed {
		return false, status.Errorf(codes.ResourceExhausted, "names and versions take more than %d bytes", maxNamed)
	}
	more := false
	flying := false
	for _, sub := range s.subs {
		more = more || sub.isDue() || len(sub.dropped) > 0
		flying = flying || len(sub.flight) > 0
	}
	if !flying && !more {
		s.turn.end()
		s.turn = nil
	}
	return more, nil
}

func (s *stream) size() int {
	n := 0
	for _, sub := range s.subs {
		n += sub.held.size()
	}
	return n
}

// forgetWarming makes endpoints be sent that the client says to have, where their
// cluster was sent on this stream: see rewarm.
func (s *stream) forgetWarming(sub *subscription) {
	clusters := s.subs[ClusterType]
	if sub.typeURL != EndpointType || clusters == nil {
		return
	}
	for n, h := range clusters.held.all() {
		if h.seq > 0 {
			sub.held.forget(n)
			sub.review()
		}
	}
}

// rewarm makes the endpoints of changed clusters be sent again. Envoy replaces a
// changed cluster, and the new one waits for endpoints even if they did not change
// (Envoy, "Cluster warming"); it asks for them by the same name as before, so the
// request shows no difference. Endpoints have the name of their cluster, as in Istio.
func (s *stream) rewarm(clusters []Resource) {
	endpoints := s.subs[EndpointType]
	if endpoints == nil {
		return
	}
	for _, c := range clusters {
		endpoints.held.forget(keyOf(c.Name))
		endpoints.reviewNames([]string{c.Name})
	}
}

// push brings the client up to date: first, in order, what is new and changed; then what
// is removed and may still be referred to until then. It ends early where the client has
// too much to answer; its answer is what goes on with it.
func (s *stream) push(ctx context.Context) error {
	if err := s.awaitTurn(ctx); err != nil {
		return err
	}
	ready, err := s.refresh(ctx)
	if err != nil || !ready {
		return err
	}
	for {
		if err := s.server.slot(ctx); err != nil {
			return err
		}
		out := s.next()
		s.server.free()
		if out == nil {
			return nil
		}
		if err := s.wire.send(out); err != nil {
			return err
		}
	}
}

// next is the next response; nil when there is none, or it has to wait.
func (s *stream) next() *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []phase{phaseUpdate, phaseRemove} {
		held := ""
		for _, typeURL := range s.order {
			// Nothing may refer to what has not arrived. But what Envoy's clusters wait for goes
			// on: it answers for clusters only when they are warm.
			if held != "" && !warms(typeURL) {
				continue
			}
			out, wait := s.take(typeURL, p)
			if out != nil {
				return out
			}
			if wait {
				held = typeURL
			}
		}
		if held != "" {
			s.state, s.replaced = nil, nil // nothing old is kept for who answers late
			return nil
		}
	}
	s.replaced = nil
	if s.delta {
		s.state = nil
	}
	return nil
}

func (s *stream) take(typeURL string, p phase) (out *response, wait bool) {
	sub := s.subs[typeURL]
	if !sub.due[p] {
		return nil, false
	}
	now, old := typeState{s.state, typeURL}, typeState{s.replaced, typeURL}
	out, changed := sub.take(now, old, p, strconv.FormatUint(s.sequence, 10), responseLimit)
	if typeURL == ClusterType {
		s.rewarm(changed)
	}
	return out, out == nil && sub.due[p]
}

// refresh takes the view's present state. When it cannot be made, the client keeps what it
// has, and the status tells why; ready is false then, and before the first request.
func (s *stream) refresh(ctx context.Context) (ready bool, err error) {
	if err := s.server.slot(ctx); err != nil {
		return false, err
	}
	defer s.server.free()
	s.mu.Lock()
	node := s.node
	s.mu.Unlock()
	if node == nil {
		return false, nil
	}
	state, err := s.look(ctx, node)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = ""
	if err != nil {
		s.failed = err.Error()
		s.server.log.Error("cannot make the configuration of a node", "node", node.GetId(), "error", err)
		return false, nil
	}
	if s.sequence != state.Sequence() {
		for _, sub := range s.subs {
			if names, known := state.Changed(sub.typeURL, s.sequence); known && s.sequence != 0 {
				sub.reviewNames(names)
			} else {
				sub.review()
			}
		}
		s.sequence = state.Sequence()
	}
	if s.state != state && !s.delta {
		s.replaced = s.state
	}
	s.state = state
	return true, nil
}

// look finds the view of the node and its state, and tells it what the client subscribes to.
func (s *stream) look(ctx context.Context, node *corev3.Node) (State, error) {
	if s.view != nil && s.view.Stale() {
		s.leave()
	}
	if s.view == nil {
		view, err := s.server.view(ctx, node)
		if err != nil {
			return nil, err
		}
		s.view, s.sequence = view, 0
	}
	s.mu.Lock()
	for _, sub := range s.subs {
		s.tell(sub)
	}
	s.mu.Unlock()
	return s.view.State()
}

// tell tells the view which names were added and dropped.
func (s *stream) tell(sub *subscription) {
	if !sub.viewed {
		s.view.Hold(sub.typeURL, slices.Collect(sub.held.names()))
		sub.viewed = true
		return
	}
	if len(sub.added) > 0 {
		s.view.Hold(sub.typeURL, sub.added)
	}
	if len(sub.dropped) > 0 {
		s.view.Release(sub.typeURL, sub.dropped)
	}
	sub.added, sub.dropped = nil, nil
}

// leave ends the use of the view, and the turn.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn.end()
	s.turn = nil
	if s.view == nil {
		return
	}
	for _, sub := range s.subs {
		if !sub.viewed {
			continue
		}
		s.tell(sub)
		s.view.Release(sub.typeURL, slices.Collect(sub.held.names()))
		sub.viewed = false
	}
	s.view.Leave()
	s.view, s.sequence = nil, 0
}

func (s *stream) nodeID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.GetId()
}

func (s *stream) status() NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := NodeStatus{
		NodeID: s.node.GetId(), Remote: s.remote, Delta: s.delta,
		Connected: s.since, Error: s.failed,
	}
	for _, typeURL := range s.order {
		n.Types = append(n.Types, s.subs[typeURL].status(n.NodeID))
	}
	return n
}

// status tells the state of the type at the node.
func (s *subscription) status(nodeID string) TypeStatus {
	t := TypeStatus{
		TypeURL: s.typeURL, Wildcard: s.wildcard, Subscribed: s.held.named,
		Version: s.version, Accepted: s.accepted,
	}
	for n, h := range s.held.all() {
		if h.version != noVersion && h.version != unknownVersion {
			t.Held++
		}
		switch {
		case h.state == ackRefused:
			t.Refused = append(t.Refused, n.Value())
		case h.state == ackPending && h.seq > 0:
			t.Pending = append(t.Pending, n.Value())
		}
	}
	slices.Sort(t.Pending)
	slices.Sort(t.Refused)
	if s.nack != nil {
		nack := *s.nack
		nack.NodeID = nodeID
		t.Nack = &nack
	}
	return t
}
