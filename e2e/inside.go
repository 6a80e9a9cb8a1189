package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/egret-mesh/egret/e2e/internal/image"
	"github.com/egret-mesh/egret/e2e/internal/internet"
	"github.com/egret-mesh/egret/e2e/internal/lab"
	"github.com/egret-mesh/egret/e2e/internal/node"
	"github.com/egret-mesh/egret/e2e/internal/scenario"
	"github.com/egret-mesh/egret/e2e/internal/term"
)

// inside runs in the namespaces: the internet, the node, then the lab or a shell.
func inside(ctx context.Context, o options) error {
	p := &phases{os.Stdout, time.Now()}
	authority, err := startInternet(ctx, o)
	if err != nil {
		return err
	}
	p.done("start the simulated internet")
	ln, err := net.Listen("tcp", node.RegistryAddr)
	if err != nil {
		return err
	}
	registry := image.NewRegistry(ln)
	defer registry.Close()
	pushed := make(chan error, 1)
	go func() { pushed <- pushImages(registry.Addr(), o, authority) }()
	ctx, n, err := node.Start(ctx, node.Config{Dir: o.dir, Programs: o.programs, Resolver: internet.Resolver(), Log: os.Stdout})
	if err != nil {
		return errors.Join(err, keepLogs(o))
	}
	p.done("start etcd, the API server, containerd and the kubelet")
	if err := <-pushed; err != nil {
		return err
	}
	p.done("build the images")
	if err := n.Setup(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx), keepLogs(o))
	}
	p.done("node, kube-proxy and CoreDNS ready")
	err = use(ctx, o, n.Kubeconfig)
	return errors.Join(err, keepLogs(o))
}

// startInternet starts it, gives the node its network, and returns its authority.
func startInternet(ctx context.Context, o options) ([]byte, error) {
	world, err := internet.Start(ctx, o.args(stageInternet))
	if err != nil {
		return nil, err
	}
	if err := node.Connect(world.PID); err != nil {
		return nil, err
	}
	return world.Go()
}

func pushImages(registry string, o options, authority []byte) error {
	images, err := image.Node(o.programs)
	if err != nil {
		return err
	}
	nginx, err := image.Nginx(authority)
	if err != nil {
		return err
	}
	images = append(append(images, nginx), image.Egret("egret-mesh", o.version, filepath.Join(o.root, "bin"), authority)...)
	for _, i := range images {
		if err := image.Push(registry, i); err != nil {
			return err
		}
	}
	return nil
}

// use is the lab or a shell on a running cluster.
func use(ctx context.Context, o options, kubeconfig string) error {
	env, err := environment(o, kubeconfig)
	if err != nil {
		return err
	}
	if o.shell {
		cmd := exec.CommandContext(ctx, "bash", "--norc")
		cmd.Env = append(env, `PS1=egret-e2e# `)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		fmt.Println("kubectl and istioctl are ready; the cluster ends with the shell")
		_ = cmd.Run() // the status is that of the user's last command
		return nil
	}
	return perform(ctx, o, env, scenario.Cluster{}, &lab.Lab{System: []string{
		`kube-system +coredns\S* +1/1 +Running`, `kube-system +kube-proxy\S* +1/1 +Running`,
	}})
}

// perform is the lab and the scenarios; the lab's table is the last that is printed.
func perform(ctx context.Context, o options, env []string, on scenario.Cluster, l *lab.Lab) error {
	work := filepath.Join(o.dir, "lab")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	l.Shell = term.Shell{Dir: work, Env: env, Out: os.Stdout}
	l.InstallFlags = on.InstallFlags
	l.Examples = filepath.Join(o.root, "examples", "lab")
	err := l.Run(ctx)
	used, memoryErr := memory("/proc")
	var outcomes []scenario.Outcome
	if err == nil {
		outcomes, err = further(ctx, l.Shell, on, o.only)
	}
	fmt.Print("\n## Further scenarios\n\n" + scenario.Format(outcomes))
	fmt.Print("\n## Times and memory\n\n")
	for _, t := range l.Times {
		fmt.Printf("%-40s %6.1f s\n", t.What, t.Took.Seconds())
	}
	fmt.Print(used)
	fmt.Print("\n## Summary: what was measured\n\n" + l.Summary())
	return errors.Join(err, memoryErr, context.Cause(ctx))
}

// further runs the scenarios that are selected; the error says how many differ.
func further(ctx context.Context, sh term.Shell, on scenario.Cluster, only string) ([]scenario.Outcome, error) {
	outcomes, err := scenario.Run(ctx, sh, on, scenario.Select(scenario.All(on), only))
	for _, o := range outcomes {
		if o.Err != nil {
			err = errors.Join(err, fmt.Errorf("scenario %s: %w", o.Scenario.Name, o.Err))
		}
	}
	return outcomes, err
}

// environment has kubectl and istioctl first on the PATH; istioctl is egret.
func environment(o options, kubeconfig string) ([]string, error) {
	tools := filepath.Join(o.dir, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return nil, err
	}
	kubectl := filepath.Join(o.programs, "kubectl")
	if _, err := os.Stat(kubectl); err != nil {
		if kubectl, err = exec.LookPath("kubectl"); err != nil {
			return nil, err
		}
	}
	for name, program := range map[string]string{
		"helm":     filepath.Join(o.programs, "helm"),
		"kubectl":  kubectl,
		"istioctl": filepath.Join(o.root, "bin", "egret"),
		"egret":    filepath.Join(o.root, "bin", "egret"),
	} {
		if err := os.Symlink(program, filepath.Join(tools, name)); err != nil {
			return nil, err
		}
	}
	return append(os.Environ(), "CHARTS="+filepath.Join(o.root, "charts"), "TAG="+o.version, "KUBECONFIG="+kubeconfig, "PATH="+tools+":"+os.Getenv("PATH")), nil
}

// keepLogs copies the logs of the node's programs to where the user wants them.
func keepLogs(o options) error {
	if o.keep == "" {
		return nil
	}
	if err := os.RemoveAll(o.keep); err != nil {
		return err
	}
	return os.CopyFS(o.keep, os.DirFS(filepath.Join(o.dir, "logs")))
}
