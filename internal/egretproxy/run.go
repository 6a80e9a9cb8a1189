package egretproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/agent/identity"
	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/data/admin"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/instance"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

// Run serves until ctx ends, and drains; then it returns nil.
func Run(ctx context.Context, o Options) error {
	servers, err := dial(o.Bootstrap.Servers, o.callCredentials())
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range servers {
			_ = c.Close()
		}
	}()
	who, err := newIdentity(o)
	if err != nil {
		return err
	}
	defer func() { _ = who.close() }()
	lookup := upstream.NewResolver(upstream.ResolverOptions{Logger: o.Logger})
	p, err := instance.New(instance.Options{
		ControlPlanes: controlPlanes(servers), Copy: o.Copy, SotW: !o.Bootstrap.Delta,
		Node: o.Bootstrap.Node, Workload: workload(o.Bootstrap.Node),
		Dialer: &upstream.NetDialer{}, Resolver: lookup, Secrets: who.options.Secrets, Logger: o.Logger,
		Refused: func(err error) {
			o.Logger.Error("config_rejected; what was there before stays in force", "error", err)
		},
		Lost:           func(err error) { o.Logger.Error("lines of the access log are lost", "error", err) },
		MaxConnections: instance.MaxConnections(instance.OpenFiles(), filesPerConnection, mostConnections),
		DrainTimeout:   o.DrainTimeout,
		KeepBodies:     o.Bootstrap.Admin.IsValid(),
	})
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, o, p, lookup, who), p.Close())
}

// dial makes the connections to the control planes; nothing is sent before they are used.
func dial(servers []bootstrap.Server, with []grpc.DialOption) (out []*grpc.ClientConn, err error) {
	for _, s := range servers {
		c, errDial := xds.Dial(s.Address, s.TLS, s.ConnectTimeout, with...)
		if errDial != nil {
			err = errors.Join(err, fmt.Errorf("control plane %s: %w", s.Address, errDial))
			continue
		}
		out = append(out, c)
	}
	if err != nil {
		for _, c := range out {
			_ = c.Close()
		}
		return nil, err
	}
	return out, nil
}

func controlPlanes(servers []*grpc.ClientConn) (out []grpc.ClientConnInterface) {
	for _, s := range servers {
		out = append(out, s)
	}
	return out
}

// serve serves until ctx ends. What the connections need, names and configuration, and
// what the operator asks, goes on until they have ended too.
func serve(ctx context.Context, o Options, p *instance.Instance, lookup *upstream.DNSResolver, who workloadIdentity) error {
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, stopServing := context.WithCancel(failed)
	defer stopServing()
	defer context.AfterFunc(ctx, func() {
		p.Retire()
		select {
		case <-time.After(o.LameDuck):
		case <-serving.Done():
		}
		stopServing()
	})()
	ctx, stop := context.WithCancel(failed)
	defer stop()
	var binder proxy.Binder
	if o.DNSAddress != "" {
		resolver := dns.New(dns.Options{
			Source: p.Store(), OnDemand: p.Store(), Resolver: lookup, Recorder: p.Recorder(), Logger: o.Logger, SearchDomains: o.SearchDomains,
		})
		binder = resolver
		sockets, err := listenDNS(o.DNSAddress)
		if err != nil {
			return err
		}
		for _, at := range sockets {
			g.Go(func() error { return resolver.ServePacket(ctx, at.packets) })
			g.Go(func() error { return resolver.ServeStream(ctx, at.streams) })
		}
	}
	if o.Bootstrap.Admin.IsValid() {
		ln, err := net.Listen("tcp", o.Bootstrap.Admin.String())
		if err != nil {
			stop()
			return errors.Join(fmt.Errorf("admin: %w", err), g.Wait())
		}
		operator, err := admin.New(admin.Options{
			Proxy: p, Bootstrap: o.Bootstrap.Message, Version: version(), Log: o.Logger, Level: o.Level,
			DrainTime: o.DrainTimeout, Quit: stopServing, Names: o.DNSAddress != "",
		})
		if err != nil {
			stop()
			return errors.Join(fmt.Errorf("admin: %w", err), ln.Close(), g.Wait())
		}
		g.Go(func() error { return operator.Serve(ctx, ln) })
	}
	if o.Agent != nil {
		servers, err := statusServers(o.Agent, p)
		if err != nil {
			stop()
			return errors.Join(err, g.Wait())
		}
		for _, s := range servers {
			g.Go(func() error { return s.serve(ctx) })
		}
		g.Go(func() error { return identity.Run(ctx, who.options) })
	}
	if o.Memory != nil {
		g.Go(func() error { o.Memory.Watch(ctx, p.Store()); return nil })
	}
	g.Go(func() error { return p.Configure(ctx) })
	g.Go(func() error {
		defer stop()
		return p.Serve(serving, machine{}, binder)
	})
	return g.Wait()
}

// dnsSockets are those of one address.
type dnsSockets struct {
	packets net.PacketConn
	streams net.Listener
}

// listenDNS opens the sockets of the workload's DNS. The host "localhost" means 127.0.0.1, and
// ::1 where the machine has it: queries to a server with an IPv6 address are led there.
func listenDNS(address string) ([]dnsSockets, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("DNS: %w", err)
	}
	if host != "localhost" {
		one, err := listenDNSAt(address)
		return []dnsSockets{one}, err
	}
	first, err := listenDNSAt(net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(first.streams.Addr().String()) // 0 has become a number
	second, err := listenDNSAt(net.JoinHostPort("::1", port))
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT): // no IPv6 here
		return []dnsSockets{first}, nil
	case err != nil:
		return nil, errors.Join(err, first.packets.Close(), first.streams.Close())
	}
	return []dnsSockets{first, second}, nil
}

func listenDNSAt(address string) (s dnsSockets, err error) {
	if s.packets, err = net.ListenPacket("udp", address); err != nil {
		return s, fmt.Errorf("DNS: %w", err)
	}
	if s.streams, err = net.Listen("tcp", s.packets.LocalAddr().String()); err != nil {
		return s, fmt.Errorf("DNS: %w", errors.Join(err, s.packets.Close()))
	}
	return s, nil
}
