package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/egret-mesh/egret/e2e/internal/image"
	"github.com/egret-mesh/egret/e2e/internal/lab"
)

// existing runs the lab on the cluster of KUBECONFIG, with the internet that the
// cluster has. The further scenarios need the simulated one.
func existing(ctx context.Context, o options, kubeconfig string) error {
	dir, err := os.MkdirTemp("", "egret-e2e-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir, o.only = dir, "none"
	flags, err := loadImages(ctx, o)
	if err != nil {
		return err
	}
	env, err := environment(o, kubeconfig)
	if err != nil {
		return err
	}
	return perform(ctx, o, env, &lab.Lab{InstallFlags: flags, System: []string{`kube-system +coredns\S* +1/1 +Running`}})
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
