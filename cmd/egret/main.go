// Command egret is egress control for workloads, with Istio's API, on one machine.
package main

import (
	"os"

	"github.com/egret-mesh/egret/internal/cli"
)

func main() {
	os.Exit(finish(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})))
}
