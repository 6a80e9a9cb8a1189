// Command egretd is Egret's control plane.
package main

import (
	"os"

	"github.com/egret-mesh/egret/internal/egretd"
)

func main() { os.Exit(egretd.Main(os.Args[1:], os.Stdout, os.Stderr)) }
