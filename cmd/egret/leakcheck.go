//go:build leakcheck

package main

import (
	"fmt"
	"os"

	"go.uber.org/goleak"
)

// finish fails when goroutines are left. The scenario tests build the program so, and
// see it in the exit status.
func finish(code int) int {
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "egret: goroutines are left:", err)
		return 98
	}
	return code
}
