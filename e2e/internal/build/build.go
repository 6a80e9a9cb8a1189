// Package build makes the programs of a Kubernetes node from their Go modules
// (components/) and keeps them: what is there and unchanged is not built again.
//
// It must not start any of them.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Component is one Go module whose tools are programs of the node.
type Component struct {
	// Module is the folder below components/.
	Module string
	// Programs are the names that the build leaves in the folder of programs.
	Programs []string
	// Rename gives a program the name that it is known by: built -> known.
	Rename map[string]string
	// CGO: the program needs a C compiler.
	CGO     bool
	Tags    string
	LDFlags string
}

// Components are all that a node needs, and the clients that the scenarios type. Kubernetes would call itself v0.0.0-master
// without the linker's flags.
func Components() []Component {
	const version = "v1.37.2"
	kubernetes := strings.Join([]string{
		"-X k8s.io/component-base/version.gitVersion=" + version,
		"-X k8s.io/component-base/version.gitMajor=1",
		"-X k8s.io/component-base/version.gitMinor=37",
		"-X k8s.io/client-go/pkg/version.gitVersion=" + version,
	}, " ")
	return []Component{
		{Module: "etcd", Programs: []string{"etcd"}, Rename: map[string]string{"server": "etcd"}},
		{Module: "kubernetes", LDFlags: kubernetes, Programs: []string{"kube-apiserver", "kube-controller-manager",
			"kube-scheduler", "kubelet", "kube-proxy", "kubectl"}},
		{Module: "containerd", Programs: []string{"containerd", "containerd-shim-runc-v2", "ctr"},
			LDFlags: "-X github.com/containerd/containerd/v2/version.Version=v2.4.2"},
		{Module: "runc", Programs: []string{"runc"}, CGO: true, Tags: "seccomp", LDFlags: "-X main.version=1.5.2"},
		{Module: "cni", Programs: []string{"ptp", "loopback", "host-local"}},
		{Module: "coredns", Programs: []string{"coredns"}},
		{Module: "helm", Programs: []string{"helm"}},
	}
}

// Builder builds into a folder.
type Builder struct {
	// Modules is the folder of the components' modules, Programs that of the results.
	Modules, Programs string
	// Go is the go command.
	Go string
	// Log gets a line for each module that is built, and the compiler's output.
	Log io.Writer
}

// All builds what is missing or whose module has changed. It reports whether
// anything was built.
func (b Builder) All(ctx context.Context, components []Component) (bool, error) {
	built := false
	for _, c := range components {
		fresh, err := b.one(ctx, c)
		if err != nil {
			return built, fmt.Errorf("build %s: %w", c.Module, err)
		}
		built = built || fresh
	}
	return built, nil
}

func (b Builder) one(ctx context.Context, c Component) (bool, error) {
	want, err := b.sum(ctx, c)
	if err != nil {
		return false, err
	}
	stamp := filepath.Join(b.Programs, "."+c.Module+".sum")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want && b.complete(c) {
		return false, nil
	}
	start := time.Now()
	fmt.Fprintf(b.Log, "building %s: %s\n", c.Module, strings.Join(c.Programs, ", "))
	if err := b.compile(ctx, c); err != nil {
		return false, err
	}
	if !b.complete(c) {
		return false, fmt.Errorf("the build did not make all of %v", c.Programs)
	}
	fmt.Fprintf(b.Log, "built %s in %s\n", c.Module, time.Since(start).Round(time.Second))
	return true, os.WriteFile(stamp, []byte(want), 0o644)
}

func (b Builder) compile(ctx context.Context, c Component) error {
	if err := os.MkdirAll(b.Programs, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + c.LDFlags)}
	if c.Tags != "" {
		args = append(args, "-tags", c.Tags)
	}
	// Into a folder of its own: a program that runs now must not be written over.
	into, err := os.MkdirTemp(b.Programs, ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(into)
	cmd := exec.CommandContext(ctx, b.Go, append(args, "-o", into+"/", "tool")...)
	cmd.Dir = filepath.Join(b.Modules, c.Module)
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED="+map[bool]string{true: "1", false: "0"}[c.CGO])
	cmd.Stdout, cmd.Stderr = b.Log, b.Log
	if err := cmd.Run(); err != nil {
		return err
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if known, ok := c.Rename[name]; ok {
			name = known
		}
		if err := os.Rename(filepath.Join(into, e.Name()), filepath.Join(b.Programs, name)); err != nil {
			return err
		}
	}
	return nil
}

func (b Builder) complete(c Component) bool {
	for _, p := range c.Programs {
		if info, err := os.Stat(filepath.Join(b.Programs, p)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// sum identifies what a component is built from and with.
func (b Builder) sum(ctx context.Context, c Component) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.Modules, c.Module, name))
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	cmd := exec.CommandContext(ctx, b.Go, "version")
	cmd.Dir = filepath.Join(b.Modules, c.Module)
	version, err := cmd.Output()
	if err != nil {
		return "", errors.Join(errors.New("the go command is needed"), err)
	}
	fmt.Fprintf(h, "%s %v %s %s", version, c.CGO, c.Tags, c.LDFlags)
	return hex.EncodeToString(h.Sum(nil)), nil
}
