package sds

import (
	"cmp"
	"context"
	"log/slog"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/xds"
)

// Secrets is where Secrets come from; *kube.Secrets is it.
type Secrets interface {
	// Hold follows the Secrets of a namespace, until as many Releases.
	Hold(namespace string)
	Release(namespace string)
	// Secret is one of a namespace that is held; nil: there is none. known is false until the
	// namespace's have been read.
	Secret(namespace, name string) (s *Secret, known bool)
	// Changed holds one when something is not as it was.
	Changed() <-chan struct{}
}

// Options of New; all but Logger are needed.
type Options struct {
	Secrets Secrets
	// Review asks about who wants keys.
	Review Reviewer
	// Caller is who has proven to be at the other end of a stream; false: nobody has.
	Caller func(context.Context) (Account, bool)
	Logger *slog.Logger // nil discards
}

// Server gives proxies their secrets.
type Server struct {
	options Options
	access  *access
	changes chan struct{}
	counts  *Counts
}

// New makes a Server; Run makes it work.
func New(o Options) *Server {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	s := &Server{options: o, changes: make(chan struct{}, 1), counts: &Counts{}}
	s.access = newAccess(o.Review, s.changed)
	return s
}

// Run asks who may have what until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); s.access.run(ctx) }()
	defer func() { <-done }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.options.Secrets.Changed():
			s.changed()
		}
	}
}

func (s *Server) changed() { poke(s.changes) }

// Changed holds one when what some proxy gets may be different: then tell the xDS server.
func (s *Server) Changed() <-chan struct{} { return s.changes }

// Counts are the metrics.
func (s *Server) Counts() *Counts { return s.counts }

// Around adds secrets to what a generator makes: each stream gets those that its own caller
// may have.
func (s *Server) Around(v xds.Viewer) xds.Viewer { return &viewer{v, s} }

type viewer struct {
	xds.Viewer
	server *Server
}

// View implements xds.Viewer.
func (v *viewer) View(ctx context.Context, node *corev3.Node) (xds.View, error) {
	base, err := v.Viewer.View(ctx, node)
	if err != nil {
		return nil, err
	}
	who, proven := v.server.options.Caller(ctx)
	return &view{View: base, server: v.server, node: node.GetId(), who: who, proven: proven, names: map[string]*wanted{}}, nil
}
