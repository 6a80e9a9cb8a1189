// Command egret is egress control for workloads, with Istio's API, on one machine. What is for
// a cluster is done by egret-cluster, which it executes. By the name istioctl it is istioctl.
package main

import (
	"os"
	"path/filepath"

	"github.com/egret-mesh/egret/internal/cli"
)

func main() {
	os.Exit(finish(cli.Main(filepath.Base(os.Args[0]), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})))
}
