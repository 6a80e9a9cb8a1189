// Package scenario runs the scripts of testdata: Istio YAML, commands and their
// expected outcome, with the real egret program, in a world with a simulated
// internet. It has no code, only tests.
package scenario
