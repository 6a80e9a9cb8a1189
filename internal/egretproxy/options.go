// Package egretproxy is the proxy as a program of its own, sidecar or gateway: started with
// a bootstrap in Envoy's form, it takes all else from a control plane by ADS, listens on
// the machine's addresses and dials from its network.
//
// It has no part of a control plane; it puts data/instance on the network. That it may
// take the place of pilot-agent and Envoy in an Istio pod is agent's matter (newProxyCommand).
package egretproxy

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/agent"
	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/memory"
)

// Options of Run. Bootstrap is needed.
type Options struct {
	Bootstrap *bootstrap.Bootstrap
	// DNSAddress serves the workload's DNS, UDP and TCP; "": not served. Istio's agent
	// has it at 127.0.0.1:15053.
	DNSAddress string
	// SearchDomains are those of the workload's resolver: what is not known below them is no
	// name that was meant.
	SearchDomains []string
	// Copy is the file where the configuration is kept, to start with when the control
	// plane is away; "": none.
	Copy string
	// DrainTimeout is how long live connections may go on when the proxy ends.
	DrainTimeout time.Duration
	// LameDuck is how long the proxy goes on to accept before that, for clients that have
	// not heard yet that it ends.
	LameDuck time.Duration
	// Agent is set in an Istio pod: the workload's certificate comes from there, and the
	// kubelet is served.
	Agent *agent.Settings
	// Memory is the process's; nil: nobody keeps it.
	Memory *memory.Keeper
	Logger *slog.Logger
	// Level is that of Logger, for the admin interface to change; nil: it cannot.
	Level *slog.LevelVar
}

// version is that of the program's module.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// readBootstrap reads a file, or standard input for "-".
func readBootstrap(path string) (*bootstrap.Bootstrap, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, bootstrap.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return bootstrap.Parse(text)
}

// workload is whose calls the metrics tell, from the node's metadata as Istio's proxies
// have it (WORKLOAD_NAME, NAMESPACE, CLUSTER_ID, LABELS).
func workload(n *corev3.Node) record.Workload {
	fields := n.GetMetadata().GetFields()
	labels := fields["LABELS"].GetStructValue().GetFields()
	text := func(m map[string]*structpb.Value, keys ...string) string {
		for _, key := range keys {
			if s := m[key].GetStringValue(); s != "" {
				return s
			}
		}
		return ""
	}
	return record.Workload{
		Name:      text(fields, "WORKLOAD_NAME", "NAME"),
		Namespace: text(fields, "NAMESPACE"),
		Cluster:   text(fields, "CLUSTER_ID"),
		App:       text(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"),
		Version:   text(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"),
	}
}

// Open files that egret-proxy reckons with.
const (
	// filesPerConnection is the most that one connection costs: two sockets, a pipe (two
	// files) in each direction, and one idle connection to an upstream.
	filesPerConnection = 2 + 4 + 1
	mostConnections    = 65536 // where memory is the bound
)
