package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	datahttp "github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/memory"
	"github.com/egret-mesh/egret/internal/xds"
)

const (
	// patience bounds how long the first configuration may take.
	patience = 2 * time.Minute
	// maxResponse is the largest response of the control plane, in bytes.
	maxResponse = 64 << 20
)

type options struct {
	xds, admin  string
	node        *corev3.Node
	captures    []capture // none: an egress gateway
	connections int
	log         *slog.Logger
}

// run serves until ctx ends.
func run(ctx context.Context, o options) error {
	keeper := memory.New()
	conn, err := grpc.NewClient("passthrough:///"+o.xds, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return err
	}
	defer conn.Close()
	store := config.NewStore(config.StoreOptions{Logger: o.log})
	client := xds.NewClient(conn, xds.ClientOptions{Node: o.node, Delta: true, Handler: store, Logger: o.log})
	store.Attach(client)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	defer func() { <-ended }()
	defer cancel()
	if err := published(ctx, store, len(o.captures) > 0); err != nil {
		return err
	}
	settled := make(chan struct{})
	go func() { defer close(settled); keeper.Watch(ctx, store) }()
	defer func() { <-settled }()
	defer cancel()
	return serve(ctx, o, store)
}

// published waits for a complete configuration; a sidecar's has the name table.
func published(ctx context.Context, store *config.Store, names bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	changed, unsubscribe := store.Subscribe()
	defer unsubscribe()
	for c := store.Current(); c == nil || names && c.Names == nil; c = store.Current() {
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no configuration: %w", ctx.Err())
		}
	}
	return nil
}

// serve runs the proxy on the configuration of the store.
func serve(ctx context.Context, o options, store *config.Store) error {
	recorder, err := record.New(record.Options{
		Logger: o.log, Workload: record.Workload{Name: "bench", Namespace: "default"},
	})
	if err != nil {
		return err
	}
	defer recorder.Close()
	manager := upstream.NewManager(upstream.Options{
		Source: store, Logger: o.log,
		Resolver: upstream.NewResolver(upstream.ResolverOptions{Logger: o.log}),
	})
	defer manager.Close()
	names := dns.New(dns.Options{Source: store, Recorder: recorder, Logger: o.log})
	s, err := newSockets(o.captures, func(name string) dns.Answer { return names.Assign(store.Current(), name) })
	if err != nil {
		return err
	}
	handler := datahttp.NewHandler(datahttp.Options{Upstreams: manager, Recorder: recorder, Logger: o.log})
	defer handler.Close()
	if o.admin != "" {
		stop, err := serveAdmin(o.admin, recorder)
		if err != nil {
			return err
		}
		defer stop()
	}
	p := proxy.Options{
		Source: store, Sockets: s, Upstreams: manager, HTTP: handler, MaxConnections: o.connections,
		Recorder: recorder, Logger: o.log, DrainTimeout: -1,
	}
	if len(o.captures) > 0 { // a gateway's clients have another resolver
		p.Binder = names
	}
	return proxy.New(p).Run(ctx)
}

// serveAdmin serves the metrics, and profiles of the running process.
func serveAdmin(address string, r *record.Recorder) (stop func(), err error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /stats/prometheus", r.MetricsHandler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }() // ends with Close
	return func() { _ = server.Close(); <-ended }, nil
}
