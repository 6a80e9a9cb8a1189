package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Cluster's addresses.
const (
	clusterCIDR    = "10.244.0.0/16"
	podCIDR        = "10.244.0.0/24"
	serviceCIDR    = "10.96.0.0/16"
	apiServiceAddr = "10.96.0.1"
	dnsServiceAddr = "10.96.0.10"
	apiServer      = "https://" + nodeAddr + ":6443"
	nodeName       = "egret-node"
	// RegistryAddr is where the node's container runtime looks for the images of
	// docker.io.
	RegistryAddr = nodeAddr + ":5000"
)

// Config says what a node is made of.
type Config struct {
	// Dir is the folder of everything that the node writes, Programs has its programs.
	Dir, Programs string
	// Resolver is the DNS server outside of the cluster.
	Resolver string
	// OutsidePID is a process in the network namespace of the outside.
	OutsidePID int
	Log        io.Writer
}

// Node is a running one.
type Node struct {
	// Kubeconfig is the administrator's.
	Kubeconfig string
	config     Config
	pki        *pki
	fail       context.CancelCauseFunc
}

// Connect makes the node's network; a registry can listen on RegistryAddr after it.
func Connect(outsidePID int) error { return connect(outsidePID) }

// Start starts all of a node's processes and returns when the API server answers. The
// context that it returns ends when one of them ends; its cause says which.
func Start(ctx context.Context, c Config) (context.Context, *Node, error) {
	ctx, fail := context.WithCancelCause(ctx)
	n := &Node{config: c, fail: fail, Kubeconfig: filepath.Join(c.Dir, "admin.kubeconfig")}
	if err := n.start(ctx); err != nil {
		fail(err)
		return ctx, nil, err
	}
	return ctx, n, nil
}

func (n *Node) start(ctx context.Context) error {
	var err error
	if n.pki, err = newPKI(filepath.Join(n.config.Dir, "pki")); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := n.writeFiles(); err != nil {
		return err
	}
	if err := makeControlGroups(filepath.Base(n.config.Dir)); err != nil {
		return fmt.Errorf("make control groups: %w", err)
	}
	for _, p := range n.processes() {
		if p.name == "kubelet" { // it and those after it give up without an API server
			if err := n.waitForAPI(ctx); err != nil {
				return err
			}
		}
		if err := start(ctx, n.config.Dir, p, n.fail); err != nil {
			return err
		}
	}
	return nil
}

// Setup applies kube-proxy and CoreDNS and waits until the node and they are ready.
func (n *Node) Setup(ctx context.Context) error {
	manifests := filepath.Join(n.config.Dir, "manifests.yaml")
	if err := n.kubectl(ctx, "apply", "-f", manifests); err != nil {
		return err
	}
	node := func() bool { return n.kubectl(ctx, "get", "node", nodeName) == nil }
	if err := poll(ctx, node); err != nil {
		return fmt.Errorf("the node did not register: %w", err)
	}
	for _, wait := range [][]string{
		{"wait", "--timeout=120s", "--for=condition=Ready", "node/" + nodeName},
		{"rollout", "status", "--timeout=120s", "-n", "kube-system", "daemonset/kube-proxy"},
		{"rollout", "status", "--timeout=120s", "-n", "kube-system", "deployment/coredns"},
	} {
		if err := n.kubectl(ctx, wait...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) waitForAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("the API server did not become ready:\n%s",
		tail(filepath.Join(n.config.Dir, "logs", "kube-apiserver.log"), 10)))
	defer cancel()
	return poll(ctx, func() bool { return n.kubectl(ctx, "get", "--raw", "/readyz") == nil })
}

// poll asks again and again until it is true, or ctx ends.
func poll(ctx context.Context, done func() bool) error {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
	return nil
}

func (n *Node) kubectl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(n.config.Programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+n.Kubeconfig)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl %v: %w: %s", args, err, out)
	}
	return nil
}
