// Package examples holds the YAML that the README, the lab and the tests use. It
// has no code of its own.
package examples

import "embed"

// Files are all examples, by their path below this folder.
//
//go:embed */*.yaml
var Files embed.FS
