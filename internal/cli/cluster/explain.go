package cluster

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/cli"
)

func explainCommand(f *flags) *cobra.Command {
	var (
		namespace, output string
		asked             cli.CallFlags
	)
	cmd := &cobra.Command{
		Use: "explain [KIND/]NAME[.NAMESPACE] URL|HOST:PORT [flags]", Short: "Say what the mesh decides for a call of a pod, and why",
		Long: `Says what would happen to a call of a pod: verdict, reason, each hop (sidecar, gateway), and
the objects of the cluster that decide, or the one that is missing. It reads what the cluster
has now, asks the proxy's own decision code, and calls nobody. With deploy/NAME, or another KIND
that has pods, one of its pods is looked at.

The exit status is 1 when the call would be refused,
or would fail as nothing can answer.`,
		Example: fmt.Sprintf("  %[1]s explain pod/test https://www.wikipedia.org\n  %[1]s explain deploy/web.shop db.example.com:3306", f.name),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s wants a pod and a URL or HOST:PORT (see %s --help)", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cli.CheckOutput(output); err != nil {
				return err
			}
			call, err := asked.Call(args[1])
			if err != nil {
				return err
			}
			c, err := f.clients(cmd.Context())
			if err != nil {
				return err
			}
			pod, err := c.pod(cmd.Context(), args[0], namespace, f.namespace())
			if err != nil {
				return err
			}
			result, err := c.explainPod(cmd.Context(), pod, f.istioNamespace, call)
			if err != nil {
				return err
			}
			if err := cli.PrintExplanation(f.streams.Out, output, result, nil); err != nil {
				return err
			}
			if result.Verdict != "allowed" {
				return &noError{}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` of the pod")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "output `format`: text or json")
	asked.Register(cmd.Flags())
	return cmd
}
