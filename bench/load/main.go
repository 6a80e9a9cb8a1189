// Command load makes the load that no packaged tool makes, and serves as an origin for
// TCP. Its first argument says what it does:
//
//	rate     HTTP requests at a fixed rate, open loop: latency percentiles
//	bulk     bytes both ways over TCP, for a time
//	connect  short TCP connections, one after the other, for a time
//	idle     keep-alive connections that each made one request, held until standard input ends
//	origin   the other end of bulk and connect
//
// The result is one line of JSON. Any request or connection that fails ends it with an
// error: a proxy that refuses is fast and measures nothing.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("say what: rate, bulk, connect, idle or origin")
	}
	var result any
	var err error
	switch name, rest := args[0], args[1:]; name {
	case "rate":
		result, err = rate(ctx, rest)
	case "bulk":
		result, err = bulk(ctx, rest)
	case "connect":
		result, err = connect(ctx, rest)
	case "idle":
		return idle(ctx, rest, in, out)
	case "origin":
		return origin(ctx, rest, out)
	default:
		return fmt.Errorf("%q is not rate, bulk, connect, idle or origin", name)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
