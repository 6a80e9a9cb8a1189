package cli

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/standalone"
	"github.com/egret-mesh/egret/internal/xds"
)

type bootstrapOptions struct {
	proxy    string
	nodeType string
	workload standalone.Workload
	address  string
	domain   string
	metadata map[string]string
	servers  []string
	admin    string
	tls      xds.TLS
	dns      bool
}

func bootstrapCommand(s Streams) *cobra.Command {
	var o bootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap [flags]",
		Short: "Print what a proxy starts with",
		Long: `Prints a bootstrap in Envoy's form, as YAML, with which a stock Envoy or egret-proxy
takes its configuration from egretd, or from another control plane that knows Istio's
nodes: by delta ADS, in plain text, or with TLS where --tls-ca is given.

With --for grpc it prints the JSON that a gRPC application without a proxy starts with: the
file that GRPC_XDS_BOOTSTRAP names. Such an application dials "xds:///HOST:PORT".`,
		Example: `  egret bootstrap --for envoy --name web --namespace shop -l app=web > bootstrap.yaml
  egret bootstrap --node-type router --name istio-egressgateway -n istio-system -l istio=egressgateway`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := o.text()
			if err != nil {
				return err
			}
			_, err = s.Out.Write(text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.proxy, "for", "egret", "which `proxy`: egret or envoy; or grpc, an application without one")
	f.StringVar(&o.nodeType, "node-type", "sidecar", "`type` of the proxy: sidecar or router (a gateway)")
	workloadFlags(cmd, &o.workload)
	f.StringVar(&o.address, "address", "127.0.0.1", "the workload's `address`, in the node's id")
	f.StringVar(&o.domain, "domain", "cluster.local", "`domain` of the mesh")
	f.StringToStringVar(&o.metadata, "metadata", nil, "more of the node's metadata: `KEY=VALUE,...`, such as EGRET_ON_DEMAND=true")
	f.StringArrayVar(&o.servers, "xds-address", []string{"127.0.0.1:15010"}, "`host:port` of the control plane; may be repeated: each next one is for when those before do not answer")
	f.StringVar(&o.admin, "admin-address", "127.0.0.1:15000", "`address:port` where the proxy serves its operator; \"\": nowhere")
	f.StringVar(&o.tls.CA, "tls-ca", "", "PEM `file` of the authorities of the control plane's certificate; switches TLS on")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "PEM `file` of the proxy's own certificate")
	f.StringVar(&o.tls.Key, "tls-key", "", "PEM `file` of its key")
	f.StringArrayVar(&o.tls.Names, "tls-name", nil, "`name` that the control plane's certificate is for: DNS name, address or URI; may be repeated")
	f.StringVar(&o.tls.ServerName, "tls-server-name", "", "`name` that is asked for (SNI)")
	f.BoolVar(&o.dns, "dns", false, "the proxy answers the workload's DNS (egret-proxy --dns-address)")
	for _, name := range []string{"metadata", "xds-address"} {
		f.Lookup(name).DefValue = map[string]string{"xds-address": "127.0.0.1:15010"}[name]
	}
	return cmd
}

func (o bootstrapOptions) text() ([]byte, error) {
	switch {
	case o.proxy != "egret" && o.proxy != "envoy" && o.proxy != "grpc":
		return nil, fmt.Errorf("unknown proxy %q: egret, envoy or grpc", o.proxy)
	case o.proxy == "envoy" && o.dns:
		return nil, fmt.Errorf("--dns: Envoy alone does not answer the workload's DNS as Istio means it")
	case o.proxy == "grpc" && (o.dns || o.nodeType != "sidecar"):
		return nil, fmt.Errorf("--for grpc: there is no proxy that could be a gateway or answer DNS")
	}
	if err := o.workload.Check(); err != nil {
		return nil, err
	}
	node := mesh.Node{
		Type: mesh.NodeType(o.nodeType), Name: o.workload.Name, Namespace: o.workload.Namespace,
		Labels: o.workload.Labels, DNSCapture: o.dns,
	}
	if node.Type != mesh.NodeSidecar && node.Type != mesh.NodeRouter {
		return nil, fmt.Errorf("unknown node type %q: sidecar or router", o.nodeType)
	}
	if o.proxy == "grpc" {
		node.Type = mesh.NodeProxyless
	}
	address, err := netip.ParseAddr(o.address)
	if err != nil {
		return nil, fmt.Errorf("--address: %w", err)
	}
	node.Addresses = []netip.Addr{address}
	b := bootstrap.Options{Servers: o.servers, Node: xdsgen.EncodeNode(node, o.domain)}
	fields := b.Node.GetMetadata().GetFields()
	fields["NAME"], fields["WORKLOAD_NAME"] = structpb.NewStringValue(node.Name), structpb.NewStringValue(node.Name)
	for key, value := range o.metadata {
		fields[key] = structpb.NewStringValue(value)
	}
	b.Node.Cluster = node.Name + "." + node.Namespace // Envoy needs one
	if o.admin != "" {
		if b.Admin, err = netip.ParseAddrPort(o.admin); err != nil {
			return nil, fmt.Errorf("--admin-address: %w", err)
		}
	}
	if o.tls.CA != "" {
		b.TLS = &o.tls
	} else if o.tls.Cert+o.tls.Key+o.tls.ServerName != "" || len(o.tls.Names) > 0 {
		return nil, fmt.Errorf("TLS needs --tls-ca, the authorities that the control plane's certificate comes from")
	}
	if o.proxy == "grpc" {
		return bootstrap.GRPC(b)
	}
	message, err := bootstrap.New(b)
	if err != nil {
		return nil, err
	}
	return bootstrap.YAML(message)
}
