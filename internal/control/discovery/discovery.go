// Package discovery is the control plane put together: a source of objects, the mesh that
// is built from them, and the ADS server that sends each proxy its resources. Standalone
// mode has one in its process, egretd is one.
//
// It has no policy of its own and opens no sockets: its ADS server is registered with
// somebody else's gRPC server.
package discovery

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/sds"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/xds"
)

// Source is where objects come from; *source.Watcher is one.
type Source interface {
	// Current is the newest state; never nil.
	Current() *source.State
	// Subscribe gives the current state at once and then each new one; a slow reader
	// misses some, never the newest. The function ends the subscription.
	Subscribe() (<-chan *source.State, func())
}

// Options of New. Source is needed.
type Options struct {
	Source Source
	// Mesh says how the mesh is built of a state's objects: what the place where the
	// control plane runs adds to them. Nil adds nothing. Previous is set by the server.
	Mesh func(istioapi.Objects) mesh.Options
	// Place says where proxies are that do not say it themselves; nil: nobody knows.
	Place xdsgen.Place
	// Tell is handed the problems of each new state, those of reading and those of
	// building the mesh; nil: nobody.
	Tell func([]istioapi.Problem)
	// Admit says which node's configuration a stream may have (xds.ServerOptions).
	Admit func(ctx context.Context, node *corev3.Node) error
	// Secrets gives proxies what credentialName names; nil: there are no Secrets here, and
	// nothing in the mesh names any. Who makes it runs it.
	Secrets *sds.Server
	Logger  *slog.Logger // nil discards
}

// Server is a control plane.
type Server struct {
	options   Options
	generator *xdsgen.Generator
	ads       *xds.Server
	last      atomic.Pointer[mesh.Snapshot]
}

// New builds the mesh of the source's current state. Run follows its changes.
func New(o Options) *Server {
	if o.Mesh == nil {
		o.Mesh = func(istioapi.Objects) mesh.Options { return mesh.Options{} }
	}
	if o.Tell == nil {
		o.Tell = func([]istioapi.Problem) {}
	}
	s := &Server{options: o}
	s.generator = xdsgen.NewGenerator(s.snapshot(o.Source.Current()), o.Place)
	var all xds.Generator = s.generator
	if o.Secrets != nil {
		all = o.Secrets.Around(s.generator)
	}
	s.ads = xds.NewServer(all, xds.ServerOptions{Logger: o.Logger, Admit: o.Admit})
	return s
}

// ADS serves the proxies.
func (s *Server) ADS() *xds.Server { return s.ads }

// Run follows the source until ctx ends. Call it once.
func (s *Server) Run(ctx context.Context) error {
	states, unsubscribe := s.options.Source.Subscribe()
	defer unsubscribe()
	var secrets <-chan struct{}
	if s.options.Secrets != nil {
		secrets = s.options.Secrets.Changed()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case state := <-states:
			s.generator.Set(s.snapshot(state))
			s.ads.Changed()
		case <-secrets:
			s.ads.Changed()
		}
	}
}

// snapshot builds the mesh from a state of the source, and tells its problems.
func (s *Server) snapshot(state *source.State) *mesh.Snapshot {
	options := s.options.Mesh(state.Objects)
	options.Previous = s.last.Load()
	snapshot, problems := mesh.New(state.Objects, options)
	s.last.Store(snapshot)
	s.options.Tell(withoutRepeats(state.Problems, problems))
	return snapshot
}

// withoutRepeats adds to the problems of reading those of building, except where
// reading has told of the same field already.
func withoutRepeats(reading, building []istioapi.Problem) []istioapi.Problem {
	type place struct {
		file   string
		object istioapi.Ref
		field  string
	}
	told := map[place]bool{}
	for _, p := range reading {
		told[place{p.File, p.Object, p.Field}] = true
	}
	all := slices.Clone(reading)
	for _, p := range building {
		if !told[place{p.File, p.Object, p.Field}] {
			all = append(all, p)
		}
	}
	return all
}
