package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/control/analyze"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// readTimeout bounds how long a cluster may take to tell all that it has.
const readTimeout = time.Minute

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
			objects, services, problems, err := f.read(cmd.Context())
			if err != nil {
				return err
			}
			problems = append(problems, analyze.InCluster(objects, services)...)
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

// read gives what a control plane would know of the cluster now.
func (f *flags) read(ctx context.Context) (objects istioapi.Objects, services []*mesh.Service, problems []istioapi.Problem, err error) {
	if _, err := f.connect(ctx); err != nil {
		return objects, nil, nil, err
	}
	config, err := f.config()
	if err != nil {
		return objects, nil, nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return objects, nil, nil, err
	}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return objects, nil, nil, err
	}
	c := kube.New(kube.Options{Client: client, Dynamic: d, SystemNamespace: f.istioNamespace})
	ctx, stop := context.WithTimeout(ctx, readTimeout)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return c.Run(ctx) })
	select {
	case <-c.Synced():
	case <-ctx.Done():
		return objects, nil, nil, fmt.Errorf("the cluster did not tell all that it has within %s; does your user have the rights to list pods, services, nodes and Istio's objects?", readTimeout)
	}
	state := c.Current()
	services = c.Services()
	stop()
	return state.Objects, services, slices.Clone(state.Problems), g.Wait()
}
