package egretd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/kube"
)

// ClusterOptions of RunCluster. Config is needed; "" of an address is Istio's default port
// on all addresses, "-" is not served.
type ClusterOptions struct {
	// Config is how to reach the API server.
	Config *rest.Config
	// PlainAddress serves xDS in plain text (15010), SecureAddress with TLS and
	// IstioCertificateService (15012), WebhookAddress the webhooks with TLS (15017),
	// HTTPAddress /ready (8080), MonitoringAddress /ready, /metrics and /debug (15014).
	PlainAddress, SecureAddress, WebhookAddress, HTTPAddress, MonitoringAddress string
	// Namespace and Pod are the control plane's own; Revision is of this control plane,
	// Domain the cluster's ("cluster.local"), ClusterID the name that proxies have for it.
	Namespace, Pod, Revision, Domain, ClusterID string
	// Statuses and Analysis write the status of Istio's objects (PILOT_ENABLE_STATUS,
	// PILOT_ENABLE_ANALYSIS); off, as in Istio.
	Statuses, Analysis bool
	Logger             *slog.Logger
	// Listening is told the addresses, each as it is opened; nil: nobody.
	Listening func(name string, at net.Addr)
}

// Names of what is listened on.
const (
	plainXDS   = "grpc-xds"
	secureXDS  = "https-dns"
	webhooks   = "https-webhook"
	plainHTTP  = "http"
	monitoring = "http-monitoring"
)

func (o *ClusterOptions) setDefaults() error {
	if o.Config == nil {
		return errors.New("no API server to ask")
	}
	for _, d := range []struct {
		field *string
		value string
	}{
		{&o.PlainAddress, ":15010"}, {&o.SecureAddress, ":15012"}, {&o.WebhookAddress, ":15017"},
		{&o.HTTPAddress, ":8080"}, {&o.MonitoringAddress, ":15014"},
		{&o.Namespace, "istio-system"}, {&o.Revision, "default"}, {&o.Domain, "cluster.local"}, {&o.ClusterID, "Kubernetes"}, {&o.Pod, "istiod"},
	} {
		*d.field = cmp.Or(*d.field, d.value)
	}
	if o.Pod == "" {
		o.Pod = "egretd" // outside of a cluster; elections want a name
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Listening == nil {
		o.Listening = func(string, net.Addr) {}
	}
	return nil
}

// cluster is what the parts of the control plane share in a cluster.
type cluster struct {
	options ClusterOptions
	client  kubernetes.Interface
	dynamic dynamic.Interface
	world   *kube.Cluster
	log     *slog.Logger
}

func newCluster(o ClusterOptions) (*cluster, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	config := rest.CopyConfig(o.Config)
	config.UserAgent = "egretd"
	config.QPS, config.Burst = 80, 160 // Istio's KUBECLIENT_QPS and KUBECLIENT_BURST
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	config.AcceptContentTypes, config.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	return &cluster{options: o, client: client, dynamic: d, log: o.Logger, world: kube.New(kube.Options{
		Client: client, Dynamic: d, SystemNamespace: o.Namespace, Revision: o.Revision, Domain: o.Domain, Logger: o.Logger,
	})}, nil
}

// RunCluster is the control plane of a Kubernetes cluster until ctx ends; then it returns
// nil. Proxies can connect when it knows all that the cluster has, as who connected before would
// lose what is not known yet; then, with all ports open, it is ready.
func RunCluster(ctx context.Context, o ClusterOptions) error {
	c, err := newCluster(o)
	if err != nil {
		return err
	}
	return c.run(ctx)
}

func (c *cluster) run(ctx context.Context) error {
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(c.log.Handler()))
	o := &c.options
	open, err := c.listen([]port{{plainHTTP, o.HTTPAddress}, {monitoring, o.MonitoringAddress}, {webhooks, o.WebhookAddress}})
	if err != nil {
		return err
	}
	id := newIdentity(c)
	g, ctx := errgroup.WithContext(ctx)
	ready := &readiness{}
	inside := ready.mux()
	g.Go(func() error { return serveHTTP(ctx, open[0], ready.mux(), nil) })
	g.Go(func() error { return serveHTTP(ctx, open[1], locally(inside), nil) })
	g.Go(func() error { return c.world.Run(ctx) })
	g.Go(func() error { return id.run(ctx, c) })
	hooks := newAdmission(c)
	g.Go(func() error { return hooks.run(ctx) })
	g.Go(func() error { return serveHTTP(ctx, open[2], hooks.mux(), id.webhooks) })
	g.Go(func() error { return c.serveProxies(ctx, id, inside, ready, hooks) })
	return g.Wait()
}

// serveProxies waits until the cluster is known, and serves xDS from then on.
func (c *cluster) serveProxies(ctx context.Context, id *identity, inside *http.ServeMux, ready *readiness, hooks *admission) error {
	select {
	case <-c.world.Synced():
	case <-ctx.Done():
		return nil
	}
	if !id.ready(ctx) {
		return nil
	}
	problems := &problems{log: c.log}
	secrets, keepSecrets := newSecrets(c)
	control := discovery.New(discovery.Options{
		Source: c.world, Mesh: c.world.Mesh, Place: c.world.Place, Tell: problems.tell, Admit: id.admit, Secrets: secrets, Logger: c.log,
	})
	if err := addMonitoring(inside, control, problems, hooks, id.counts, secrets.Counts()); err != nil {
		return err
	}
	open, err := c.listen([]port{{plainXDS, c.options.PlainAddress}, {secureXDS, c.options.SecureAddress}})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return keepSecrets(ctx) })
	g.Go(func() error { return control.Run(ctx) })
	if c.options.Statuses || c.options.Analysis {
		g.Go(func() error { return c.writeStatuses(ctx, control) })
	}
	if open[0] != nil {
		g.Go(func() error { return serveADS(ctx, open[0], control.ADS(), nil) })
	}
	if open[1] != nil {
		g.Go(func() error { return serveADS(ctx, open[1], control.ADS(), id.service.Register, id.serverOptions()...) })
	}
	ready.set(true)
	c.log.Info("ready: all of the cluster is known", "objects", c.world.Current().Objects.Len())
	<-ctx.Done()
	ready.set(false)
	return g.Wait()
}

// writeStatuses writes the status of Istio's objects, while this replica is the one.
func (c *cluster) writeStatuses(ctx context.Context, control *discovery.Server) error {
	election := kube.Election{Name: kube.StatusElection, Identity: c.options.Pod}
	return c.world.Lead(ctx, election, func(ctx context.Context) {
		c.world.WriteStatus(ctx, kube.StatusOptions{
			Reconciled: c.options.Statuses, Analysis: c.options.Analysis, Proxies: control.UpToDate,
		})
	})
}

// port is what is listened on: one of the names above, and host:port, or "-".
type port struct{ name, address string }

// listen opens ports, all or none; nil is one that is not served.
func (c *cluster) listen(ports []port) ([]net.Listener, error) {
	out := make([]net.Listener, len(ports))
	for i, p := range ports {
		if p.address == "-" {
			continue
		}
		ln, err := net.Listen("tcp", p.address)
		if err != nil {
			for _, opened := range out[:i] {
				if opened != nil {
					_ = opened.Close()
				}
			}
			return nil, fmt.Errorf("listen (%s): %w", p.name, err)
		}
		out[i] = ln
		c.options.Listening(p.name, ln.Addr())
	}
	return out, nil
}

// leave bounds how long an end waits for what is being answered.
const leave = 5 * time.Second
