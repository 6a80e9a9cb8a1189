package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/cli"
)

// versionWait bounds how long version waits for a cluster that may not be there.
const versionWait = 5 * time.Second

// versions are what version prints with -o json, in istioctl's words.
type versions struct {
	Client       string         `json:"clientVersion"`
	ControlPlane []string       `json:"meshVersion,omitempty"`
	DataPlane    map[string]int `json:"dataPlaneVersion,omitempty"` // number of proxies by version
}

func versionCommand(f *flags) *cobra.Command {
	var (
		remote, short bool
		output        string
	)
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of the program, the control plane and the proxies",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: cli.Version()}
			var trouble error
			if remote {
				ctx, stop := context.WithTimeout(cmd.Context(), versionWait)
				defer stop()
				trouble = f.remoteVersions(ctx, &v)
			}
			if output == "json" {
				return cli.PrintJSON(f.streams.Out, v)
			}
			return printVersions(f, v, remote, trouble)
		},
	}
	cmd.Flags().BoolVar(&remote, "remote", true, "ask the cluster")
	cmd.Flags().BoolVarP(&short, "short", "s", true, "of istioctl's; has no effect")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`format`: json")
	return cmd
}

func printVersions(f *flags, v versions, remote bool, trouble error) error {
	out := f.streams.Out
	fmt.Fprintf(out, "client version: %s\n", v.Client)
	switch {
	case !remote:
	case trouble != nil:
		fmt.Fprintf(f.streams.Err, "%s: the cluster's versions are not known: %v\n", f.name, trouble)
	case len(v.ControlPlane) == 0:
		fmt.Fprintf(out, "control plane version: none, there is no ready istiod in %q\n", f.istioNamespace)
	default:
		fmt.Fprintf(out, "control plane version: %s\n", strings.Join(v.ControlPlane, ", "))
	}
	if trouble == nil && remote {
		fmt.Fprintf(out, "data plane version: %s\n", dataPlane(v.DataPlane))
	}
	return nil
}

func dataPlane(count map[string]int) string {
	var all []string
	for _, version := range slices.Sorted(maps.Keys(count)) {
		proxies := "proxies"
		if count[version] == 1 {
			proxies = "proxy"
		}
		all = append(all, fmt.Sprintf("%s (%d %s)", version, count[version], proxies))
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}

// remoteVersions are the tags of the images of ready pods: of istiod in its namespace, and of
// every istio-proxy container.
func (f *flags) remoteVersions(ctx context.Context, v *versions) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	pods, err := c.Dynamic.Resource(podResource).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		return err
	}
	v.DataPlane = map[string]int{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if image := containerImage(pod, "discovery"); image != "" && pod.GetNamespace() == f.istioNamespace && pod.GetLabels()["app"] == "istiod" {
			if tag := imageVersion(image); !slices.Contains(v.ControlPlane, tag) {
				v.ControlPlane = append(v.ControlPlane, tag)
			}
		}
		if image := containerImage(pod, "istio-proxy"); image != "" {
			v.DataPlane[imageVersion(image)]++
		}
	}
	slices.Sort(v.ControlPlane)
	return nil
}
