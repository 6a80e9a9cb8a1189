package cluster

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/proxyconfig"
	"github.com/egret-mesh/egret/internal/proxystatus"
)

// Ports of a pod, as Istio has them.
const (
	adminPort      = 15000 // a proxy's admin interface
	monitoringPort = 15014 // istiod's
)

func proxyStatusCommand(f *flags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "proxy-status [flags]", Aliases: []string{"ps"},
		Short: "Print how far each proxy of the cluster is with its configuration",
		Long: `Asks each ready istiod about the proxies that are connected to it: for each type of resource
SYNCED (all that was sent is acknowledged), STALE (an answer is missing), NOT SENT, or ERROR;
then which resources a proxy refuses, and in which words.

The exit status is 1 when something is refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			config, err := f.config()
			if err != nil {
				return err
			}
			pods, err := c.Dynamic.Resource(podResource).Namespace(f.istioNamespace).List(cmd.Context(),
				metav1.ListOptions{LabelSelector: "app=istiod", FieldSelector: "status.phase=Running"})
			if err != nil {
				return err
			}
			if len(pods.Items) == 0 {
				return fmt.Errorf("there is no running istiod in %q", f.istioNamespace)
			}
			var all []discovery.SyncStatus
			for i := range pods.Items {
				text, err := get(cmd.Context(), config, f.istioNamespace, pods.Items[i].GetName(), monitoringPort, "/debug/syncz")
				if err != nil {
					return err
				}
				some, err := proxystatus.Read(bytes.NewReader(text))
				if err != nil {
					return err
				}
				all = append(all, some...)
			}
			if output == "json" {
				return cli.PrintJSON(f.streams.Out, all)
			}
			bad, err := proxystatus.Print(f.streams.Out, all)
			if err == nil && bad {
				return &noError{}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "output `format`: text or json")
	return cmd
}

func proxyConfigCommand(f *flags) *cobra.Command {
	var (
		namespace string
		filter    proxyconfig.Filter
		print     proxyconfig.Options
	)
	cmd := &cobra.Command{
		Use: "proxy-config {" + strings.Join(proxyconfig.Kinds(), "|") + "} [KIND/]NAME[.NAMESPACE] [flags]", Aliases: []string{"pc"},
		Short: "Print the configuration that the proxy of a pod has",
		Long: `Prints what the proxy of a pod has, from its admin interface. With deploy/NAME, or another KIND
that has pods, one of its pods is asked.

A filter that a kind of resource does not have is not looked at.`,
		Example: fmt.Sprintf("  %s proxy-config routes test --name 80\n  %s proxy-config clusters istio-egressgateway-7d4b9c-x2x.istio-system -o json", f.name, f.name),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s wants a kind of resource and a pod (see %s --help)", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.clients(cmd.Context())
			if err != nil {
				return err
			}
			pod, err := c.pod(cmd.Context(), args[1], namespace, f.namespace())
			if err != nil {
				return err
			}
			if proxyOf(pod) == nil {
				return fmt.Errorf("pod %s has no proxy: there is no container %s", fullName(pod), proxyContainer)
			}
			text, err := get(cmd.Context(), c.config, pod.Namespace, pod.Name, adminPort, "/config_dump?include_eds")
			if err != nil {
				return err
			}
			dump, err := proxyconfig.Read(bytes.NewReader(text))
			if err != nil {
				return err
			}
			print.Now = time.Now()
			return proxyconfig.Print(f.streams.Out, filter.Select(dump), args[0], print)
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` of the pod")
	cli.ProxyConfigFlags(cmd.Flags(), &filter, &print)
	return cmd
}
