// Command egret-proxy is Egret's proxy, sidecar or gateway.
package main

import (
	"os"

	"github.com/egret-mesh/egret/internal/egretproxy"
)

func main() { os.Exit(egretproxy.Main(os.Args[1:], os.Stdout, os.Stderr)) }
