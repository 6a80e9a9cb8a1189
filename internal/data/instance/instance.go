// Package instance is one proxy of the data half with all its parts: configuration
// store, ADS client, upstreams, recorder, HTTP handler and the listeners. Standalone
// mode has two of them in its process, egret-proxy is one.
//
// It only puts together and takes apart. It must not decide, forward or record, and does
// not know where it runs: sockets, dialer, resolver and the connection to the control
// plane are handed in.
package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

// StandardLog is the path by which Istio's configuration names the proxy's standard
// output. Denials that no access log has written go there.
const StandardLog = "/dev/stdout"

// Options of New. ControlPlanes, Node and Dialer are needed.
type Options struct {
	// ControlPlanes are the connections to ADS servers, at least one: each is asked when
	// those before it do not answer.
	ControlPlanes []grpc.ClientConnInterface
	// Copy is the file where the configuration is kept, to start with when no control
	// plane answers; "": none.
	Copy string
	// SotW speaks the state-of-the-world form of ADS; else the incremental one is spoken.
	SotW bool
	// Node is who the proxy says that it is.
	Node *corev3.Node
	// Workload is whose calls the metrics tell.
	Workload record.Workload
	// OpenLog opens a log by the path that the configuration has; nil: record.OpenFile.
	OpenLog func(path string) (io.WriteCloser, error)
	// Dialer opens connections to endpoints; Resolver looks their names up, nil: clusters
	// with names have no endpoints.
	Dialer   upstream.Dialer
	Resolver upstream.Resolver
	Logger   *slog.Logger // nil discards
	// Secrets are those of the agent, which TLS contexts refer to by name; nil: there is no
	// agent. The control plane's are added.
	Secrets *credentials.Secrets
	// Refused is told what the proxy cannot use of its configuration; nil: only the
	// control plane is, by NACK.
	Refused func(error)
	// Lost is told why lines of the access log are not written; nil: nobody.
	Lost func(error)
	// OnDemand bounds what is asked for by name, where the node's metadata says that it is
	// (xds.OnDemandMetadata).
	OnDemand config.Limits
	// MaxConnections bounds those that are served, and those that are kept idle. 0: the
	// defaults of data/proxy and data/http.
	MaxConnections int
	// KeepBodies keeps the configuration as it was sent, for the admin interface.
	KeepBodies bool
	// DrainTimeout is how long Serve lets connections end; 0: the default of data/proxy,
	// negative: not at all.
	DrainTimeout time.Duration
}

// Instance is one proxy. Configure and Serve run it, Close ends it.
type Instance struct {
	options  Options
	store    *config.Store
	client   *xds.Client
	manager  *upstream.Manager
	recorder *record.Recorder
	handler  *http.Handler
	serving  atomic.Pointer[proxy.Proxy] // nil before Serve
}

// New puts a proxy together. Nothing is connected or opened before Configure and Serve.
func New(o Options) (*Instance, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(error) {}
	}
	if o.Secrets == nil {
		o.Secrets = credentials.NewSecrets()
	}
	i := &Instance{options: o, store: config.NewStore(config.StoreOptions{
		Logger: o.Logger, OnDemand: onDemand(o), Limits: o.OnDemand, Secrets: o.Secrets, KeepBodies: o.KeepBodies})}
	if len(o.ControlPlanes) == 0 {
		return nil, errors.New("a proxy needs a control plane")
	}
	i.client = xds.NewClient(o.ControlPlanes[0], xds.ClientOptions{
		Node: o.Node, Delta: !o.SotW, Handler: refusals{i.store, o.Refused}, Logger: o.Logger,
		Others: o.ControlPlanes[1:], Copy: o.Copy,
	})
	i.store.Attach(i.client)
	var err error
	i.recorder, err = record.New(record.Options{
		Open:      o.OpenLog,
		DenialLog: resource.AccessLog{Path: StandardLog},
		Workload:  o.Workload,
		Hostname:  o.Workload.Name,
		Getenv:    os.Getenv,
		State:     i.state,
		Logger:    o.Logger,
		Lost:      o.Lost,
	})
	if err != nil {
		return nil, err
	}
	i.manager = upstream.NewManager(upstream.Options{Source: i.store, Dialer: o.Dialer, Resolver: o.Resolver, Secrets: o.Secrets, Logger: o.Logger})
	i.handler = http.NewHandler(http.Options{
		Upstreams: i.manager, Recorder: i.recorder, OnDemand: i.store, Logger: o.Logger,
		Limits: http.Limits{IdleTotal: o.MaxConnections},
	})
	return i, nil
}

// onDemand reports whether the node says that it asks by name for what it uses, which is
// done on delta streams only.
func onDemand(o Options) bool {
	return !o.SotW && o.Node.GetMetadata().GetFields()[xds.OnDemandMetadata].GetStringValue() == "true"
}

// refusals tells what of an update the proxy refuses, besides the NACK.
type refusals struct {
	*config.Store
	tell func(error)
}

// Apply is the store's.
func (r refusals) Apply(u xds.Update) map[string]error {
	errs := r.Store.Apply(u)
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		if errs[name] != nil {
			r.tell(errs[name])
		}
	}
	return errs
}

// Store has the configuration.
func (i *Instance) Store() *config.Store { return i.store }

// Info is what the proxy is doing.
func (i *Instance) Info() proxy.Info {
	if server := i.serving.Load(); server != nil {
		return server.Info()
	}
	return proxy.Info{}
}

// Recorder tells the ends of connections and requests.
func (i *Instance) Recorder() *record.Recorder { return i.recorder }

// Node is who the proxy says that it is.
func (i *Instance) Node() *corev3.Node { return i.options.Node }

// Upstreams has the clusters at run time.
func (i *Instance) Upstreams() *upstream.Manager { return i.manager }

// Server accepts connections; nil before Serve.
func (i *Instance) Server() *proxy.Proxy { return i.serving.Load() }

// Configure keeps the configuration up to date until ctx ends; then it returns nil.
func (i *Instance) Configure(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	following.Go(func() { i.followSecrets(ctx) })
	return i.client.Run(ctx)
}

// followSecrets tells the store of secrets that it may be waiting for, and when it has waited
// long enough.
func (i *Instance) followSecrets(ctx context.Context) {
	for {
		changed := i.options.Secrets.Changed()
		i.store.SecretsChanged()
		patience := time.NewTimer(time.Hour)
		if next, some := i.options.Secrets.Patience(); some {
			patience.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			patience.Stop()
			return
		case <-changed:
		case <-patience.C:
		}
		patience.Stop()
	}
}

// Secrets are what TLS contexts refer to by name.
func (i *Instance) Secrets() *credentials.Secrets { return i.options.Secrets }

// Ready waits for the first complete configuration. With names, as where the proxy
// answers the workload's DNS, the name table must be there too.
func (i *Instance) Ready(ctx context.Context, names bool) error {
	changed, unsubscribe := i.store.Subscribe()
	defer unsubscribe()
	for {
		if c := i.store.Current(); c != nil && (!names || c.Names != nil || c.NamesOnDemand) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy %q got no configuration: %w", i.options.Node.GetId(), ctx.Err())
		case <-changed:
		}
	}
}

// Serving reports that the listeners of the first complete configuration are open. With
// names, as for Ready, the name table must be there too.
func (i *Instance) Serving(names bool) bool {
	server, c := i.serving.Load(), i.store.Current()
	return server != nil && server.Ready() && c != nil && (!names || c.Names != nil)
}

// Serve serves until ctx ends, and drains; then it returns nil. A nil binder is for
// proxies whose clients have another resolver. Call it once.
func (i *Instance) Serve(ctx context.Context, sockets proxy.Sockets, binder proxy.Binder) error {
	server := proxy.New(proxy.Options{
		Source: i.store, Sockets: sockets, Upstreams: i.manager, HTTP: i.handler,
		Recorder: i.recorder, OnDemand: i.store, Binder: binder, Secrets: i.options.Secrets, Logger: i.options.Logger,
		MaxConnections: i.options.MaxConnections, DrainTimeout: i.options.DrainTimeout,
	})
	i.serving.Store(server)
	return server.Run(ctx)
}

// Retire has HTTP connections end with their next request, before ctx of Serve ends; see
// proxy.Proxy.
func (i *Instance) Retire() {
	if server := i.serving.Load(); server != nil {
		server.Retire(false)
	}
}

// Draining reports that Serve is to end.
func (i *Instance) Draining() bool {
	server := i.serving.Load()
	return server != nil && server.Draining()
}

// Close ends what outlives Serve: pools, names, the log. The error is about logs that
// were not written.
func (i *Instance) Close() error {
	i.handler.Close()
	i.manager.Close()
	return i.recorder.Close()
}

// state is what the parts count, for metrics.
func (i *Instance) state() record.State {
	s := record.State{Skipped: i.store.Skipped(), Clusters: i.manager.Clusters(), Mirrored: i.handler.Mirrored(), Draining: true}
	if onDemand(i.options) {
		d := i.store.OnDemandStats()
		s.OnDemand = &record.OnDemandState{Held: d.Held, Unknown: d.Unknown, Waiting: d.InFlight, Asked: d.Asked, Limited: d.Limited, Evicted: d.Evicted}
	}
	if server := i.serving.Load(); server != nil {
		s.Listeners, s.Draining = server.Listeners(), server.Draining()
	}
	return s
}
