package egretproxy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/memory"
)

// exitUsage is the exit status for a command line or a bootstrap that cannot be used.
const exitUsage = 2

// Main runs the command line until a signal ends it, and returns the exit status.
func Main(args []string, out, errs *os.File) int {
	var (
		o       = Options{Memory: memory.New()}
		config  string
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "egret-proxy -c BOOTSTRAP [flags]",
		Short: "Egret's proxy: sidecar or gateway, under any control plane that speaks xDS",
		Long: `Starts with a bootstrap in Envoy's form, YAML or JSON ("egret bootstrap" prints one):
node, admin.address, and where ADS is, by GRPC or DELTA_GRPC. All else comes from the
control plane. What of the bootstrap it cannot honour it refuses by name.

At admin.address it has Envoy's admin interface; "egret proxy-config" reads it.

SIGTERM and SIGINT end it: it stops accepting, lets connections end for --drain-timeout,
and closes the rest.`,
		Example:       `  egret-proxy -c bootstrap.yaml --dns-address 127.0.0.1:15053`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Level = &slog.LevelVar{}
			if verbose {
				o.Level.Set(slog.LevelDebug)
			}
			o.Logger = slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: o.Level}))
			var err error
			if o.Bootstrap, err = readBootstrap(config); err != nil {
				return err
			}
			if len(o.Bootstrap.LeftOut) > 0 {
				o.Logger.Info("not used of the bootstrap", "fields", strings.Join(o.Bootstrap.LeftOut, " "))
			}
			if o.DrainTimeout == 0 {
				o.DrainTimeout = -1 // not at all
			}
			return Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&config, "config-path", "c", "", "bootstrap `file`; \"-\": standard input")
	f.StringVar(&o.DNSAddress, "dns-address", "", "`address:port` of the workload's DNS (Istio's is localhost:15053, which is 127.0.0.1 and ::1); \"\": not served")
	f.StringVar(&o.Copy, "xds-copy", "", "`file` where the configuration is kept, to start with when the control plane is away; \"\": none")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 5*time.Second, "how long connections may go on at the end")
	f.BoolVarP(&verbose, "verbose", "v", false, "tell more on stderr")
	if err := cmd.MarkFlagRequired("config-path"); err != nil {
		fmt.Fprintf(errs, "egret-proxy: %v\n", err)
		return exitUsage
	}
	cmd.AddCommand(newProxyCommand(errs, o.Memory), newCaptureCommand(out, errs), newWaitCommand(errs))
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errs, "egret-proxy: %v\n", err)
		return exitUsage
	}
	return 0
}
