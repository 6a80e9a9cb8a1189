package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/egret-mesh/egret/e2e/internal/build"
	"github.com/egret-mesh/egret/e2e/internal/node"
)

// phases prints how long each part took.
type phases struct {
	to    io.Writer
	start time.Time
}

func (p *phases) done(what string) {
	now := time.Now()
	fmt.Fprintf(p.to, "[%6.1f s] %s\n", now.Sub(p.start).Seconds(), what)
	p.start = now
}

// outer builds what is missing and runs the rest in namespaces, or on the cluster of
// KUBECONFIG.
func outer(ctx context.Context, o options) error {
	if err := checkNeeds(exec.LookPath); err != nil {
		return err
	}
	p := &phases{os.Stdout, time.Now()}
	b := build.Builder{Modules: filepath.Join(o.root, "e2e", "components"), Programs: o.programs, Go: "go", Log: os.Stdout}
	if _, err := b.All(ctx, build.Components()); err != nil {
		return err
	}
	if err := buildPause(ctx, o); err != nil {
		return err
	}
	p.done("build the node's programs")
	dir, err := os.MkdirTemp("", "egret-e2e-")
	if err != nil {
		return err
	}
	o.dir = dir
	err = node.Isolate(ctx, dir, o.args(stageFirst))
	p.done("all of the cluster")
	return err
}

func buildPause(ctx context.Context, o options) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", filepath.Join(o.programs, "pause"), "./pause")
	cmd.Dir = filepath.Join(o.root, "e2e")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build pause: %w", err)
	}
	return nil
}
