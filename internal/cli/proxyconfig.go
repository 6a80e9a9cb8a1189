package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egret-mesh/egret/internal/proxyconfig"
)

type proxyConfigOptions struct {
	admin, file string
	filter      proxyconfig.Filter
	print       proxyconfig.Options
}

func proxyConfigCommand(s Streams) *cobra.Command {
	var o proxyConfigOptions
	cmd := &cobra.Command{
		Use:     "proxy-config {" + strings.Join(proxyconfig.Kinds(), "|") + "} [flags]",
		Aliases: []string{"pc"},
		Short:   "Print the configuration that a proxy has",
		Long: `Prints what a proxy has, as istioctl proxy-config does: from the admin interface of
egret-proxy or of an Envoy, or from a file that its /config_dump?include_eds was saved to.

A filter that a kind of resource does not have is not looked at.`,
		Example: `  egret proxy-config clusters --fqdn api.example.com
  egret proxy-config routes --name 80 -o json
  egret proxy-config all --file config_dump.json`,
		ValidArgs: proxyconfig.Kinds(),
		Args:      oneArgument("kind of resource"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := o.open()
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			dump, err := proxyconfig.Read(in)
			if err != nil {
				return err
			}
			o.print.Now = time.Now()
			return proxyconfig.Print(s.Out, o.filter.Select(dump), args[0], o.print)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.admin, "admin-address", "127.0.0.1:15000", "`host:port` of the proxy's admin interface")
	f.StringVar(&o.file, "file", "", "a `file` with the dump; \"-\": standard input")
	ProxyConfigFlags(f, &o.filter, &o.print)
	return cmd
}

// ProxyConfigFlags adds the flags that choose resources and how they are printed.
func ProxyConfigFlags(f *pflag.FlagSet, filter *proxyconfig.Filter, print *proxyconfig.Options) {
	f.StringVarP(&print.Format, "output", "o", "short", "`format`: json, yaml or short")
	f.BoolVar(&print.Verbose, "verbose", true, "listeners, routes: a line for each match")
	f.StringVar(&filter.Address, "address", "", "listeners, endpoints: with this `address`")
	f.Uint32Var(&filter.Port, "port", 0, "listeners, clusters, endpoints: with this `port`")
	f.StringVar(&filter.Type, "type", "", "listeners: of this `type`: HTTP, TCP or HTTP+TCP")
	f.StringVar(&filter.Name, "name", "", "routes: with this `name`")
	f.StringVar(&filter.FQDN, "fqdn", "", "clusters: of this `host`")
	f.StringVar(&filter.Subset, "subset", "", "clusters: of this `subset`")
	f.StringVar(&filter.Direction, "direction", "", "clusters: in this `direction`: inbound or outbound")
	f.StringVar(&filter.Cluster, "cluster", "", "endpoints: of this `cluster`")
	f.StringVar(&filter.Status, "status", "", "endpoints: with this `status`: healthy, unhealthy, ...")
}

func (o proxyConfigOptions) open() (io.ReadCloser, error) {
	switch o.file {
	case "":
		return fetchFrom(o.admin, "/config_dump?include_eds")
	case "-":
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(o.file)
}

// fetchFrom gets a path from a proxy or control plane.
func fetchFrom(address, path string) (io.ReadCloser, error) {
	client := http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + path)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10)) // what there is of it
		_ = r.Body.Close()
		return nil, fmt.Errorf("%s%s: %s: %s", address, path, r.Status, strings.TrimSpace(string(text)))
	}
	return r.Body, nil
}
