package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
)

// origin answers on two ports until ctx ends: on one it sends and takes bytes without
// end, on the other it answers once and closes.
func origin(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("origin", flag.ContinueOnError)
	bulkAddress := flags.String("bulk", "127.0.0.1:0", "`address:port` for bulk")
	shortAddress := flags.String("short", "127.0.0.1:0", "`address:port` for connect")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *bulkAddress)
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer ln.Close()
	work.Go(func() { accept(ln, serveBulk) })
	short, stop, err := shortOrigin(*shortAddress)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(out, "%v\n%s\n", ln.Addr(), short)
	<-ctx.Done()
	return nil
}

// accept serves until ln is closed. Its connections end with their clients.
func accept(ln net.Listener, serve func(net.Conn)) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 64<<10)); err == nil { // the hello
				serve(conn)
			}
		})
	}
}

func serveBulk(conn net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 128<<10)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}()
	block := make([]byte, 128<<10)
	for {
		if _, err := conn.Write(block); err != nil {
			break
		}
	}
	_ = conn.Close()
	<-done
}
