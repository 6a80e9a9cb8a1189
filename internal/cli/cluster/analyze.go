package cluster

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/control/analyze"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/kube"
)

func analyzeCommand(f *flags) *cobra.Command {
	var namespace, output string
	var all bool
	cmd := &cobra.Command{
		Use: "analyze [flags]", Short: "Check the Istio objects of a cluster, as Istio would and beyond",
		Long: `Reads Istio's objects, MeshConfig and the Services of the cluster, and checks each object by
itself and all together. Without -n all namespaces are told about. Files and folders instead of
the cluster: egret analyze PATH...

The exit status is 1 when there is an error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.clients(cmd.Context())
			if err != nil {
				return err
			}
			world, err := c.read(cmd.Context(), kube.Options{SystemNamespace: f.istioNamespace})
			if err != nil {
				return err
			}
			objects := world.Current().Objects
			problems := append(slices.Clone(world.Current().Problems), analyze.InCluster(objects, world.Mesh(objects))...)
			istioapi.Sort(problems)
			if namespace != "" && !all {
				problems = slices.DeleteFunc(problems, func(p istioapi.Problem) bool {
					return p.Object.Namespace != "" && p.Object.Namespace != namespace
				})
			}
			return cli.Report(f.streams, output, objects.Len(), problems)
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only what is wrong in this `namespace`")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "all namespaces, as without -n")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "output `format`: text or json")
	return cmd
}
