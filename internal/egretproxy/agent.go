package egretproxy

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/agent"
	"github.com/egret-mesh/egret/internal/agent/identity"
	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/memory"
	"github.com/egret-mesh/egret/internal/xds"
)

// newProxyCommand is what the injected container of an Istio pod calls.
func newProxyCommand(errs *os.File, keeper *memory.Keeper) *cobra.Command {
	in := agent.Input{Root: "/"}
	var logLevel string
	cmd := &cobra.Command{
		Use:   "proxy {sidecar|router}",
		Short: "Take the place of pilot-agent and Envoy in an Istio pod",
		Long: `Reads what injection gives to Istio's proxy container: ISTIO_META_* and other variables,
PROXY_CONFIG, the files of the downward API, the projected token and the mesh's root
certificate. It gets the workload's certificate from IstioCertificateService at CA_ADDR
and its configuration by ADS from discoveryAddress, both over TLS with the token.

Flags of pilot-agent that mean nothing here are told, and left out.`,
		Example:            `  egret-proxy proxy sidecar --domain default.svc.cluster.local`,
		Args:               cobra.ExactArgs(1),
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		SilenceErrors:      true,
		SilenceUsage:       true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var threshold slog.LevelVar
			threshold.Set(level(logLevel))
			logger := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: &threshold}))
			in.Role, in.Environ = args[0], os.Environ()
			var err error
			if in.Addresses, err = machineAddresses(); err != nil {
				return err
			}
			s, err := agent.Read(in)
			if err != nil {
				return err
			}
			if left := append(s.LeftOut, unknownFlags(func(name string) bool { return cmd.Flags().Lookup(name) != nil }, os.Args)...); len(left) > 0 {
				logger.Info("given, but not used", "what", strings.Join(left, " "))
			}
			if s.Concurrency > 0 {
				runtime.GOMAXPROCS(s.Concurrency)
			}
			o, err := AgentOptions(s, logger)
			if err != nil {
				return err
			}
			o.Level, o.Memory = &threshold, keeper
			return Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Domain, "domain", "", "DNS `domain` of the workload; \"\": $POD_NAMESPACE.svc.cluster.local")
	f.StringVar(&in.ServiceCluster, "serviceCluster", "", "`name` of the node's cluster, over that of ProxyConfig")
	f.IntVar(&in.Concurrency, "concurrency", 0, "`threads` that run at a time, over ProxyConfig; 0: as it says")
	f.StringVar(&logLevel, "log_output_level", "default:info", "`scope:level` of this program's own log: debug, info, warn, error, none")
	return cmd
}

// level reads Istio's --log_output_level; there is one scope here.
func level(text string) slog.Level {
	for part := range strings.SplitSeq(text, ",") {
		scope, name, ok := strings.Cut(part, ":")
		if !ok {
			scope, name = "default", part
		}
		if scope != "default" && scope != "all" {
			continue
		}
		switch name {
		case "debug", "trace":
			return slog.LevelDebug
		case "warn", "warning":
			return slog.LevelWarn
		case "error", "fatal":
			return slog.LevelError
		case "none":
			return slog.LevelError + 100
		}
	}
	return slog.LevelInfo
}

// unknownFlags are those of the arguments that the command does not have.
func unknownFlags(known func(name string) bool, args []string) (out []string) {
	for _, a := range args {
		name, ok := strings.CutPrefix(a, "--")
		name, _, _ = strings.Cut(name, "=")
		if ok && name != "" && !known(name) {
			out = append(out, "--"+name)
		}
	}
	return out
}

func machineAddresses() (out []netip.Addr, err error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("the machine's addresses: %w", err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

// AgentOptions are the options of Run in an Istio pod.
func AgentOptions(s *agent.Settings, logger *slog.Logger) (Options, error) {
	m, err := bootstrap.New(bootstrap.Options{Node: s.Node, Admin: s.Admin, Servers: []string{s.Discovery.Address}, TLS: &s.Discovery.TLS})
	if err != nil {
		return Options{}, err
	}
	o := Options{
		Agent: s, DNSAddress: s.DNSAddress, SearchDomains: s.SearchDomains, DrainTimeout: s.DrainTimeout, LameDuck: s.LameDuck, Logger: logger,
		Bootstrap: &bootstrap.Bootstrap{
			Message: m, Node: s.Node, Admin: s.Admin, Delta: true,
			Servers: []bootstrap.Server{{Cluster: "xds-grpc", Address: s.Discovery.Address, TLS: &s.Discovery.TLS}},
		},
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = -1 // not at all
	}
	return o, nil
}

// workloadIdentity is where the proxy has the workload's certificate from. The zero value
// is a proxy without an agent.
type workloadIdentity struct {
	authority *grpc.ClientConn
	options   identity.Options
}

// newIdentity connects nothing yet.
func newIdentity(o Options) (w workloadIdentity, err error) {
	s := o.Agent
	if s == nil {
		return w, nil
	}
	if w.authority, err = xds.Dial(s.Authority.Address, &s.Authority.TLS, 0, o.callCredentials()...); err != nil {
		return w, fmt.Errorf("authority %s: %w", s.Authority.Address, err)
	}
	w.options = identity.Options{
		Authority: w.authority, ID: s.ID, TTL: s.CertTTL, Grace: s.Grace, Jitter: s.Jitter, CertSigner: s.CertSigner,
		Secrets: credentials.NewSecrets(identity.Default, identity.RootCA), Logger: o.Logger,
	}
	return w, nil
}

func (w workloadIdentity) close() error {
	if w.authority == nil {
		return nil
	}
	return w.authority.Close()
}

// callCredentials show the control plane who calls.
func (o Options) callCredentials() []grpc.DialOption {
	if o.Agent == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(identity.Token{Path: o.Agent.TokenFile, ClusterID: o.Agent.ClusterID})}
}
