// Command e2e proves Egret on a real Kubernetes: it builds one from its components, or
// takes the cluster of KUBECONFIG, and runs the lab on it, command by command.
//
// Results: 0 all as expected, 1 something differs, 2 wrong use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/egret-mesh/egret/e2e/internal/internet"
	"github.com/egret-mesh/egret/e2e/internal/node"
)

// Names of the stages in which the program runs itself.
const (
	stageFirst    = "first"
	stageInside   = "inside"
	stageInternet = "internet"
)

// options are what the command line says; they go through all stages.
type options struct {
	stage    string
	root     string
	programs string
	version  string
	dir      string
	shell    bool
	keep     string
	only     string
	hub      string
	load     string
	site     string
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("e2e", flag.ContinueOnError)
	fs.StringVar(&o.root, "root", ".", "folder of the repository")
	fs.StringVar(&o.programs, "programs", "", "folder of the node's programs (default ROOT/bin/e2e)")
	fs.StringVar(&o.version, "version", "dev", "version of Egret's programs in ROOT/bin, the tag of their images")
	fs.BoolVar(&o.shell, "shell", false, "start the cluster, then a shell with kubectl and istioctl instead of the lab")
	fs.StringVar(&o.keep, "logs", "", "folder for the logs of the node's programs")
	fs.StringVar(&o.only, "only", "", "after the lab, run only the scenarios whose name contains this (none: the lab alone)")
	fs.StringVar(&o.hub, "hub", "", "with KUBECONFIG: the registry that the images are pushed to")
	fs.StringVar(&o.load, "load", "", "with KUBECONFIG: a command that loads an image from the archive that is its last argument")
	fs.StringVar(&o.site, "site", "www.example.com", "with KUBECONFIG: a host of the cluster's internet that answers http://HOST/ with 200")
	fs.StringVar(&o.stage, "stage", "", "used by the program itself")
	fs.StringVar(&o.dir, "dir", "", "used by the program itself")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown arguments %v", fs.Args())
	}
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return o, err
	}
	if o.programs == "" {
		o.programs = filepath.Join(o.root, "bin", "e2e")
	}
	o.programs, err = filepath.Abs(o.programs)
	return o, err
}

// args are the arguments of a stage.
func (o options) args(stage string) []string {
	out := []string{"-stage", stage, "-dir", o.dir, "-root", o.root, "-programs", o.programs, "-version", o.version,
		"-only", o.only, "-logs", o.keep}
	if o.shell {
		out = append(out, "-shell")
	}
	return out
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	status, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = max(status, 1)
	}
	stop()
	os.Exit(status)
}

func run(ctx context.Context, o options) (int, error) {
	switch o.stage {
	case stageFirst:
		return node.First(o.dir, o.args(stageInside))
	case stageInside:
		return 0, inside(ctx, o)
	case stageInternet:
		return 0, internet.Serve(os.Stdin, os.Stdout, io.Discard, node.Outside)
	case "":
		if kubeconfig := os.Getenv("KUBECONFIG"); kubeconfig != "" {
			return 0, existing(ctx, o, kubeconfig)
		}
		return 0, outer(ctx, o)
	}
	return 2, fmt.Errorf("no such stage: %s", o.stage)
}
