// Package cluster is egret's command line for clusters: one file per command. It is a program
// of its own, egret-cluster, which egret executes, so that `egret run` does not carry Helm and
// the client of Kubernetes. A command reads its flags, calls the package that does the work,
// and prints.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/cli"
)

// flags that every command has.
type flags struct {
	kubeconfig, context, istioNamespace string
	// name of the program: egret or istioctl.
	name    string
	streams cli.Streams
}

// Main runs the command line of a program that is called name, and returns the exit status.
func Main(name string, args []string, s cli.Streams) int {
	f := &flags{name: name, streams: s}
	root := &cobra.Command{
		Use: name, Short: "Egress control for workloads on a cluster, with Istio's API",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	p := root.PersistentFlags()
	p.StringVarP(&f.kubeconfig, "kubeconfig", "c", "", "`file` that says how to reach the cluster; else that of $KUBECONFIG or ~/.kube/config")
	p.StringVar(&f.context, "context", "", "`context` of the kubeconfig")
	p.StringVarP(&f.istioNamespace, "istioNamespace", "i", "istio-system", "`namespace` of the control plane")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(installCommand(f), upgradeCommand(f), uninstallCommand(f), verifyCommand(f), manifestCommand(f), versionCommand(f),
		kubeInjectCommand(f), proxyStatusCommand(f), proxyConfigCommand(f), explainCommand(f), analyzeCommand(f), logsCommand(f))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root.ExecuteContext(ctx)
	var no *noError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no):
		return 1
	case ctx.Err() != nil:
		fmt.Fprintf(s.Err, "%s: interrupted\n", name)
		return 1
	}
	fmt.Fprintf(s.Err, "%s: %v\n", name, err)
	return 1
}

// noError is an answer that is no, and was told.
type noError struct{}

func (*noError) Error() string { return "no" }
