// Command egret-cluster is egret's command line for clusters. egret executes it, with its own
// name as the first argument; called by any other name, istioctl for instance, it goes by that.
package main

import (
	"os"
	"path/filepath"

	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/cli/cluster"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "egret-cluster" {
		name = "egret"
	}
	os.Exit(cluster.Main(name, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
