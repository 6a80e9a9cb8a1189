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
// made when it can be sent.
type stream struct {
	server *Server
	wire   serverWire
	delta  bool
	remote string
	since  time.Time
	wake   chan struct{} // one pending flag

	mu     sync.Mutex // guards what follows
	node   *corev3.Node
	subs   map[string]*subscription
	failed string

	// Only the sending goroutine uses these.
	snapshot, replaced Snapshot
	generation         uint64 // of the server's changes, that snapshot has
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
		if err := s.handle(r); err != nil {
			return err
		}
		s.poke()
	}
}

// handle takes one request into the subscriptions. An error is a violation of the
// protocol, as a gRPC status; it ends the stream.
func (s *stream) handle(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		if r.node.GetId() == "" {
			return status.Error(codes.InvalidArgument, "the first request of a stream must have a node with an id")
		}
		s.node = r.node
	}
	if r.typeURL == "" {
		return status.Error(codes.InvalidArgument, "type_url is required on an aggregated stream")
	}
	sub := s.subs[r.typeURL]
	if sub == nil {
		if len(s.subs) >= maxTypes {
			return status.Errorf(codes.ResourceExhausted, "no more than %d types on one stream", maxTypes)
		}
		sub = newSubscription(r.typeURL, s.delta)
		s.subs[r.typeURL] = sub
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
		return status.Errorf(codes.ResourceExhausted, "names and versions take more than %d bytes", maxNamed)
	}
	return nil
}

func (s *stream) size() int {
	n := 0
	for _, sub := range s.subs {
		n += sub.size()
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
	for n, h := range clusters.held {
		if h.seq > 0 {
			delete(sub.held, n)
			sub.review()
		}
	}
}

// rewarm makes the endpoints of changed clusters be sent again. Envoy replaces a
// changed cluster, and the new one waits for endpoints even if they did not change
// (Envoy, "Cluster warming"); it asks for them by the same name as before, so the
// request shows no difference. Endpoints have the name of their cluster, as in Istio.
func (s *stream) rewarm(clusters []string) {
	endpoints := s.subs[EndpointType]
	if endpoints == nil {
		return
	}
	for _, n := range clusters {
		delete(endpoints.held, n)
	}
	if len(clusters) > 0 {
		endpoints.review()
	}
}

// push brings the client up to date: first, in order, what is new and changed; then what
// is removed and may still be referred to until then.
func (s *stream) push(ctx context.Context) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	if s.snapshot == nil {
		return nil
	}
	for _, p := range []phase{phaseUpdate, phaseRemove} {
		for _, typeURL := range s.types() {
			for out := s.take(typeURL, p); out != nil; out = s.take(typeURL, p) {
				if err := s.wire.send(out); err != nil {
					return err
				}
			}
		}
	}
	s.replaced = nil
	return nil
}

func (s *stream) types() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.subs), comparePushOrder)
}

func (s *stream) take(typeURL string, p phase) *response {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[typeURL]
	generation := strconv.FormatUint(s.generation, 10)
	out, changed := sub.take(s.snapshot[typeURL], s.replaced[typeURL], p, generation, responseLimit)
	if typeURL == ClusterType {
		s.rewarm(changed)
	}
	return out
}

// refresh makes the snapshot anew when the generator's input changed. When the
// generator fails, the client keeps what it has, and the status tells why.
func (s *stream) refresh(ctx context.Context) error {
	generation := s.server.changes.Load()
	if generation == s.generation {
		return nil
	}
	select {
	case s.server.parallel <- struct{}{}:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	s.mu.Lock()
	node := s.node
	s.mu.Unlock()
	if node == nil { // woken by Changed before the first request
		<-s.server.parallel
		return nil
	}
	snapshot, err := s.server.generator.Generate(node)
	<-s.server.parallel
	s.generation = generation
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = ""
	if err != nil {
		s.failed = err.Error()
		s.server.log.Error("cannot make the configuration of a node", "node", node.GetId(), "error", err)
		return nil
	}
	if snapshot == nil {
		snapshot = Snapshot{}
	}
	s.replaced, s.snapshot = s.snapshot, snapshot
	for _, sub := range s.subs {
		sub.review()
	}
	return nil
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
	for _, typeURL := range slices.SortedFunc(maps.Keys(s.subs), comparePushOrder) {
		n.Types = append(n.Types, s.subs[typeURL].status(n.NodeID))
	}
	return n
}

// status tells the state of the type at the node.
func (s *subscription) status(nodeID string) TypeStatus {
	t := TypeStatus{
		TypeURL: s.typeURL, Wildcard: s.wildcard, Subscribed: len(s.names),
		Version: s.version, Accepted: s.accepted,
	}
	for n, h := range s.held {
		if h.version != "" && h.version != unknownVersion {
			t.Held++
		}
		switch {
		case h.state == ackRefused:
			t.Refused = append(t.Refused, n)
		case h.state == ackPending && h.seq > 0:
			t.Pending = append(t.Pending, n)
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
