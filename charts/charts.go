// Package charts has the Helm charts that put Egret on a cluster, and the profiles of
// `egret install`: base with Istio's custom resource definitions, istiod, and gateway.
//
// The charts are the one source: egret install renders them with Helm's own engine, and
// plain `helm install` takes the same folders. The package must not decide anything.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed base istiod gateway profiles
//go:embed gateway/templates/_*.tpl istiod/templates/_*.tpl
var files embed.FS

// Files are base, istiod and gateway, each a chart, and profiles with IstioOperator YAML.
func Files() fs.FS { return files }
