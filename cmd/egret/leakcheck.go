//go:build leakcheck

package main

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// finish fails when goroutines are left. The scenario tests build the program so, and
// see it in the exit status. (One that writes to a standard error that takes nothing is
// left on purpose.)
func finish(code int) int {
	if err := goleak.Find(); err != nil {
		told := make(chan struct{})
		go func() { // standard error may take nothing
			defer close(told)
			fmt.Fprintln(os.Stderr, "egret: goroutines are left:", err)
		}()
		select {
		case <-told:
		case <-time.After(time.Second):
		}
		return 98
	}
	return code
}
