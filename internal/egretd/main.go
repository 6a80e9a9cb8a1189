package egretd

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// exitUsage is the exit status for a command line or a path that cannot be used.
const exitUsage = 2

// Main runs the command line until a signal ends it, and returns the exit status.
func Main(args []string, out, errs *os.File) int {
	var (
		o       Options
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "egretd -f PATH [flags]",
		Short: "Egret's control plane: Istio's objects in, xDS out",
		Long: `Serves the configuration that Istio's objects mean to proxies, by Envoy's ADS: to
egret-proxy, and to a stock Envoy. The objects are read from the files and folders of -f
and watched. "egret bootstrap" prints what a proxy needs to connect.

Without MeshConfig the policy is REGISTRY_ONLY, and access logs go to /dev/stdout. An
egress gateway's service is what the YAML says: a ServiceEntry for
istio-egressgateway.istio-system.svc.cluster.local whose endpoints have the gateway's labels.

"egretd discovery" is the control plane of a Kubernetes cluster instead.

SIGTERM and SIGINT end it. Proxies keep what they have.`,
		Example: `  egretd -f policy/
  egretd -f policy/ --xds-address "" --tls-address :15012 --tls-cert cert.pem --tls-key key.pem --client-ca ca.pem`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Logger = logTo(errs, verbose)
			o.Listening = func(xds, tls, monitoring net.Addr) {
				o.Logger.Info("ready", "xds", text(xds), "tls", text(tls), "monitoring", text(monitoring))
			}
			return Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Paths, "filename", "f", nil, "`path` of a file or folder of Istio YAML; may be repeated")
	f.StringVar(&o.XDSAddress, "xds-address", DefaultXDSAddress, "`address:port` of xDS in plain text; \"\": not served")
	f.StringVar(&o.TLSAddress, "tls-address", "", "`address:port` of xDS with TLS (Istio's is :15012)")
	f.StringVar(&o.TLS.Cert, "tls-cert", "", "PEM `file` of the certificate for --tls-address")
	f.StringVar(&o.TLS.Key, "tls-key", "", "PEM `file` of its key")
	f.StringVar(&o.TLS.CA, "client-ca", "", "PEM `file` of the authorities that proxies' certificates must come from; without it proxies need none")
	f.StringVar(&o.MonitoringAddress, "monitoring-address", DefaultMonitoringAddress, "`address:port` of /ready, /metrics and /debug/syncz; \"\": not served")
	f.BoolVarP(&verbose, "verbose", "v", false, "tell more on stderr")
	cmd.AddCommand(discoveryCommand(errs))
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errs, "egretd: %v\n", err)
		return exitUsage
	}
	return 0
}

// verboseLevel says whether Istio's log levels ("default:debug,ads:info") ask for more.
func verboseLevel(levels string) bool {
	for scope := range strings.SplitSeq(levels, ",") {
		name, level, ok := strings.Cut(scope, ":")
		if !ok {
			name, level = "default", scope
		}
		if (name == "default" || name == "all") && level == "debug" {
			return true
		}
	}
	return false
}

func text(a net.Addr) string {
	if a == nil {
		return "-"
	}
	return a.String()
}
