package xds

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Bounds of the server.
const (
	// maxRequest is the size of one request, in bytes: room for the names and versions
	// of some ten thousand resources.
	maxRequest = 8 << 20
	// maxNamed bounds the memory for names and versions that one stream may make the
	// server keep, in bytes.
	maxNamed = 64 << 20
	// maxTypes bounds the types that one stream may ask for.
	maxTypes = 32
	// responseLimit is where a response is split, in bytes, where the protocol can. It is
	// near what our client takes (maxResponse), as a client begins to work with the first
	// answer of a type: were that a part of its listeners, it would refuse what the others
	// are for.
	responseLimit = 48 << 20
)

// ServerOptions are the options of NewServer. The zero value is usable.
type ServerOptions struct {
	Logger *slog.Logger // nil: discard
	// MaxStreams bounds the streams at a time; 0 means 10,000.
	MaxStreams int
	// Parallel bounds the calls of Generate at a time; 0 means one per processor.
	Parallel int
	// Admit says whether a stream may have the configuration of the node that its first
	// request is of; ctx is the stream's. Its error, a gRPC status, ends the stream. Nil:
	// it may.
	Admit func(ctx context.Context, node *corev3.Node) error
}

// Server is an ADS server, state of the world and delta. Construction does nothing;
// it works for the streams that gRPC hands it after Register.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	generator  Generator
	log        *slog.Logger
	maxStreams int
	admit      func(context.Context, *corev3.Node) error
	parallel   chan struct{}
	turns      chan struct{}
	changes    atomic.Uint64
	closed     chan struct{}
	closeOnce  sync.Once

	mu      sync.Mutex
	streams map[*stream]struct{}
}

// NewServer makes a server that sends what the generator makes.
func NewServer(g Generator, o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		generator: g, log: o.Logger,
		maxStreams: cmp.Or(o.MaxStreams, 10_000), admit: o.Admit,
		parallel: make(chan struct{}, cmp.Or(o.Parallel, runtime.GOMAXPROCS(0))),
		turns:    make(chan struct{}, turns),
		closed:   make(chan struct{}),
		streams:  map[*stream]struct{}{},
	}
	s.changes.Store(1)
	return s
}

// view is the view of a node.
func (s *Server) view(ctx context.Context, node *corev3.Node) (View, error) {
	if v, ok := s.generator.(Viewer); ok {
		return v.View(ctx, node)
	}
	return &ownView{server: s, node: node}, nil
}

// GRPCOptions are the options that a gRPC server for ADS must have: the form that the
// responses are sent in, bounded requests, small buffers (a connection of a proxy rests
// nearly always), and pings that find peers that went away without a word.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}),
		grpc.ReadBufferSize(4 << 10), grpc.WriteBufferSize(4 << 10),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 15 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the ADS service to a gRPC server, which must have GRPCOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// Changed says that the generator's input changed: every stream looks at what changed of
// what its client subscribed to, and sends that. It returns at once; calls while a stream
// is still busy with an earlier one become one.
//
// It does not wait for more changes to come: who calls it has done so (the file source
// waits until nothing changed for 50 ms, at most 200 ms).
func (s *Server) Changed() {
	s.changes.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.poke()
	}
}

// Close ends all streams, with status Unavailable, and refuses new ones.
func (s *Server) Close() { s.closeOnce.Do(func() { close(s.closed) }) }

// StreamAggregatedResources serves a state-of-the-world stream.
func (s *Server) StreamAggregatedResources(st discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.serve(st.Context(), sotwServer{st}, false)
}

// DeltaAggregatedResources serves a delta stream.
func (s *Server) DeltaAggregatedResources(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.serve(st.Context(), deltaServer{st}, true)
}

func (s *Server) serve(ctx context.Context, wire serverWire, delta bool) error {
	st := newStream(s, wire, delta)
	if s.admit != nil {
		st.admit = func(n *corev3.Node) error { return s.admit(ctx, n) }
	}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		st.remote = p.Addr.String()
	}
	if !s.add(st) {
		return status.Errorf(codes.ResourceExhausted, "no more than %d streams", s.maxStreams)
	}
	defer s.remove(st)
	err := st.run(ctx)
	log := s.log.With("node", st.nodeID(), "remote", st.remote)
	if err != nil && ctx.Err() == nil {
		log.Warn("xDS stream ended", "error", err)
	} else {
		log.Debug("xDS stream ended")
	}
	return err
}

func (s *Server) add(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= s.maxStreams {
		return false
	}
	s.streams[st] = struct{}{}
	return true
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

// NodeStatus is what the server knows of one connected node.
type NodeStatus struct {
	NodeID    string
	Remote    string // address of the peer
	Delta     bool
	Connected time.Time
	// Error says why there is nothing (new) to send; "" when all is well.
	Error string
	Types []TypeStatus // in push order
}

// TypeStatus is the state of one type at one node.
type TypeStatus struct {
	TypeURL  string
	Wildcard bool
	// Subscribed is the number of names that were asked for.
	Subscribed int
	// Held is the number of resources that the node was sent or brought along.
	Held int
	// Version was sent last, Accepted was acknowledged last.
	Version, Accepted string
	// Pending and Refused are the resources whose last version the node did not answer
	// yet, and those that it refused, by name. A node answers for a whole response, so
	// Refused has all resources of that one.
	Pending, Refused []string
	// Nack is the last refusal, until something newer was accepted.
	Nack *Nack
}

// Status tells the state of every connected node, ordered by node and peer.
func (s *Server) Status() []NodeStatus {
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	var out []NodeStatus
	for _, st := range streams {
		if n := st.status(); n.NodeID != "" {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b NodeStatus) int {
		return cmp.Or(strings.Compare(a.NodeID, b.NodeID), a.Connected.Compare(b.Connected), strings.Compare(a.Remote, b.Remote))
	})
	return out
}
