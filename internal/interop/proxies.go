package interop

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/standalone"
)

// proxy is what a proxy is told, whatever its kind.
type proxy struct {
	name    string // of its access log, too
	node    *corev3.Node
	address string // of the control plane
	dns     bool   // Egret's proxy answers the app's DNS itself
}

func sidecarProxy(ads string, w standalone.Workload) proxy {
	return proxy{"sidecar", node(standalone.SidecarNode(w)), ads, true}
}

func gatewayProxy(ads string) proxy {
	return proxy{"istio-egressgateway", node(standalone.GatewayNode()), ads, false}
}

// node is n on the wire. Envoy needs a cluster; the rest is what Istio's agent says.
func node(n mesh.Node) *corev3.Node {
	out := xdsgen.EncodeNode(n, meshDomain)
	out.Cluster = n.Name + "." + n.Namespace
	out.Metadata.Fields["WORKLOAD_NAME"] = structpb.NewStringValue(n.Name)
	return out
}

// startProxy starts a proxy whose standard output, which is where Istio's configuration
// has access logs, is its file in the folder of the access logs.
func (m *meshRun) startProxy(kind Kind, p proxy, ns *namespace) (*process, error) {
	cmd, err := m.command(kind, p)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(m.scratch, p.name+".log")
	if m.options.AccessLog != "" {
		log = filepath.Join(m.options.AccessLog, p.name+".log")
	}
	stdout, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stdout.Close() }() // the process has its own
	said := filepath.Join(m.scratch, p.name+".err")
	stderr, err := os.Create(said)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return startProcess(p.name+" ("+string(kind)+")", ns, said, cmd)
}

// command starts a proxy of a kind: both begin with the same bootstrap.
func (m *meshRun) command(kind Kind, p proxy) (*exec.Cmd, error) {
	admin, err := netip.ParseAddrPort(adminAddress)
	if err != nil {
		return nil, err
	}
	message, err := bootstrap.New(bootstrap.Options{Node: p.node, Admin: admin, Servers: []string{p.address}})
	if err != nil {
		return nil, err
	}
	text, err := bootstrap.YAML(message)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(m.scratch, p.name+".yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	programs := m.options.Programs
	if kind == Envoy {
		// As Istio's agent starts it, but with less patience.
		return exec.Command(programs.Envoy, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn",
			"--drain-time-s", "2", "--drain-strategy", "immediate", "--file-flush-interval-msec", "20"), nil
	}
	args := []string{"-c", path, "--drain-timeout", "0"}
	if p.dns {
		args = append(args, "--dns-address", fmt.Sprintf("[::]:%d", intercept.DNSPort))
	}
	return exec.Command(programs.EgretProxy, args...), nil
}
