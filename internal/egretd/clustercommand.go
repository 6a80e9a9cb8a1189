package egretd

import (
	"cmp"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// discoveryCommand is pilot-discovery's command, with its flags and environment.
func discoveryCommand(errs *os.File) *cobra.Command {
	var (
		o                           ClusterOptions
		kubeconfig, kubecontext, ll string
	)
	cmd := &cobra.Command{
		Use:   "discovery [flags]",
		Short: "The control plane of a Kubernetes cluster",
		Long: `Reads Istio's objects, Services and Pods of a Kubernetes cluster and serves the
configuration that they mean to proxies. Flags and environment are those of Istio's
pilot-discovery. It asks the API server of its pod, or that of --kubeconfig or $KUBECONFIG.

SIGTERM and SIGINT end it. Proxies keep what they have.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Logger = logTo(errs, verboseLevel(ll))
			if o.Config, err = restConfig(kubeconfig, kubecontext); err != nil {
				return err
			}
			o.Listening = func(name string, at net.Addr) { o.Logger.Info("listening", "port", name, "address", at.String()) }
			return RunCluster(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "`file` that says how to reach the API server; \"\": as a pod does")
	f.StringVar(&kubecontext, "context", "", "`context` of the kubeconfig")
	f.StringVar(&o.PlainAddress, "grpcAddr", ":15010", "`address:port` of xDS in plain text; \"-\": not served")
	f.StringVar(&o.SecureAddress, "secureGRPCAddr", ":15012", "`address:port` of xDS with TLS, and of the certificate authority; \"-\": not served")
	f.StringVar(&o.WebhookAddress, "httpsAddr", ":15017", "`address:port` of the webhooks; \"-\": not served")
	f.StringVar(&o.HTTPAddress, "httpAddr", ":8080", "`address:port` of /ready; \"-\": not served")
	f.StringVar(&o.MonitoringAddress, "monitoringAddr", ":15014", "`address:port` of /ready, /metrics and /debug; \"-\": not served")
	f.StringVar(&o.Domain, "domain", "cluster.local", "DNS `domain` of the cluster")
	f.StringVar(&o.Namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), "istio-system"), "`namespace` of the control plane")
	f.StringVar(&o.Revision, "revision", cmp.Or(os.Getenv("REVISION"), "default"), "`revision` of the control plane")
	f.StringVar(&o.ClusterID, "clusterID", cmp.Or(os.Getenv("CLUSTER_ID"), "Kubernetes"), "`name` of the cluster")
	f.StringVar(&ll, "log_output_level", "default:info", "`levels` as Istio writes them; debug of \"default\" or \"all\" tells more")
	for _, name := range []string{"keepaliveMaxServerConnectionAge", "log_target", "log_rotate", "keepaliveInterval", "keepaliveTimeout"} {
		f.String(name, "", "of Istio's; has no effect")
	}
	f.Bool("log_as_json", false, "of Istio's; has no effect")
	o.Pod = os.Getenv("POD_NAME")
	o.Statuses, o.Analysis = os.Getenv("PILOT_ENABLE_STATUS") == "true", os.Getenv("PILOT_ENABLE_ANALYSIS") == "true"
	return cmd
}

// restConfig says how to reach the API server.
func restConfig(kubeconfig, kubecontext string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("%w; outside of a cluster --kubeconfig says how to reach one", err)
		}
		return config, nil
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: kubecontext},
	).ClientConfig()
}
