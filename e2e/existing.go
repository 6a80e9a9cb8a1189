package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/egret-mesh/egret/e2e/internal/image"
	"github.com/egret-mesh/egret/e2e/internal/lab"
	"github.com/egret-mesh/egret/e2e/internal/scenario"
	"github.com/egret-mesh/egret/e2e/internal/term"
)

// existing runs the lab and the scenarios on the cluster of KUBECONFIG, with the internet
// that the cluster has. What would harm a node is left out.
func existing(ctx context.Context, o options, kubeconfig string) error {
	dir, err := os.MkdirTemp("", "egret-e2e-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	env, err := environment(o, kubeconfig)
	if err != nil {
		return err
	}
	sh := term.Shell{Dir: dir, Env: env, Out: os.Stdout}
	if err := free(ctx, sh); err != nil {
		return err
	}
	flags, err := loadImages(ctx, o)
	if err != nil {
		return err
	}
	on := scenario.Cluster{Foreign: true, Site: o.site, InstallFlags: flags}
	err = perform(ctx, o, env, on, &lab.Lab{System: []string{`kube-system +coredns\S* +1/1 +Running`}})
	return errors.Join(err, tidy(context.WithoutCancel(ctx), sh))
}

// free makes sure that nobody's mesh is on the cluster: the lab would replace it, and the
// last scenario removes all of it.
func free(ctx context.Context, sh term.Shell) error {
	r, err := sh.Run(ctx, "kubectl get deployments -A -l app=istiod -o name")
	if err != nil {
		return err
	}
	if found := strings.TrimSpace(r.Output); r.ExitCode != 0 || found != "" {
		return fmt.Errorf("the cluster of KUBECONFIG has to answer and to have no istiod, as this installs one and removes it: %s", found)
	}
	return nil
}

// tidy takes away what the lab made in namespace default; the mesh itself goes with the
// last scenario.
func tidy(ctx context.Context, sh term.Shell) error {
	r, err := sh.Run(ctx, "kubectl label namespace default istio-injection-; kubectl delete pod test --ignore-not-found --now")
	sh.Show(r)
	return err
}

// loadImages brings Egret's images into the cluster: to the registry -hub, or as an
// archive for the command -load. It returns what istioctl install has to be told.
func loadImages(ctx context.Context, o options) (string, error) {
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return "", fmt.Errorf("the bundle of certificates for the images: %w", err)
	}
	programs := filepath.Join(o.root, "bin")
	if o.hub != "" {
		for _, i := range image.Egret(o.hub, o.version, programs, roots) {
			if err := image.PushTo(i.Name, i); err != nil {
				return "", err
			}
		}
		return "--set hub=" + o.hub + " --set tag=" + o.version, nil
	}
	if o.load == "" {
		return "", fmt.Errorf("KUBECONFIG is set: -load COMMAND or -hub REGISTRY must say how the cluster gets the images " +
			"(kind: -load 'kind load image-archive')")
	}
	for n, i := range image.Egret("egret-mesh", o.version, programs, roots) {
		archive := filepath.Join(o.dir, fmt.Sprintf("image-%d.tar", n))
		if err := image.Save(archive, i); err != nil {
			return "", err
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", o.load+" "+archive)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s %s: %w", o.load, archive, err)
		}
	}
	return "--set hub=docker.io/egret-mesh --set tag=" + o.version, nil
}
