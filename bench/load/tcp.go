package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// tcpOptions are those of bulk and connect.
type tcpOptions struct {
	address, sni string
	workers      int
	duration     time.Duration
}

func parseTCP(flags *flag.FlagSet, args []string) (o tcpOptions, err error) {
	flags.StringVar(&o.address, "address", "", "`address:port` to connect to")
	flags.StringVar(&o.sni, "sni", "", "begin with a TLS ClientHello for this `name`; empty: with 100 bytes of text")
	flags.IntVar(&o.workers, "connections", 4, "connections at a time")
	flags.DurationVar(&o.duration, "duration", 2*time.Second, "how long")
	return o, flags.Parse(args)
}

// hello is what a connection begins with. Whoever routes by SNI sees no more of TLS than
// the ClientHello, so what follows need not be encrypted, and the load has time left.
func (o tcpOptions) hello() ([]byte, error) {
	if o.sni == "" {
		return []byte(fmt.Sprintf("%-99s\n", "hello")), nil
	}
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		// It fails when far is closed: nobody answers.
		_ = tls.Client(near, &tls.Config{ServerName: o.sni}).Handshake()
		_ = near.Close()
	}()
	record := make([]byte, 5)
	if _, err := io.ReadFull(far, record); err != nil {
		return nil, err
	}
	body := make([]byte, int(record[3])<<8|int(record[4]))
	if _, err := io.ReadFull(far, body); err != nil {
		return nil, err
	}
	return append(record, body...), nil
}

// Bulk is the result of "bulk": bytes that the client received and sent.
type Bulk struct {
	Down    int64   `json:"down"`
	Up      int64   `json:"up"`
	Seconds float64 `json:"seconds"`
}

func bulk(ctx context.Context, args []string) (*Bulk, error) {
	o, err := parseTCP(flag.NewFlagSet("bulk", flag.ContinueOnError), args)
	if err != nil {
		return nil, err
	}
	hello, err := o.hello()
	if err != nil {
		return nil, err
	}
	var down, up atomic.Int64
	start := time.Now()
	err = each(ctx, o.workers, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write(hello); err != nil {
			return err
		}
		if err := conn.SetDeadline(time.Now().Add(o.duration)); err != nil {
			return err
		}
		return bothWays(conn, &down, &up)
	})
	if err != nil {
		return nil, err
	}
	b := &Bulk{Down: down.Load(), Up: up.Load(), Seconds: time.Since(start).Seconds()}
	if b.Down == 0 || b.Up == 0 {
		return nil, fmt.Errorf("%d bytes down, %d up", b.Down, b.Up)
	}
	return b, nil
}

// bothWays sends and receives until the deadline of conn.
func bothWays(conn net.Conn, down, up *atomic.Int64) error {
	sent := make(chan error, 1)
	go func() {
		sent <- untilDeadline(func(b []byte) error { n, err := conn.Write(b); up.Add(int64(n)); return err })
	}()
	err := untilDeadline(func(b []byte) error { n, err := conn.Read(b); down.Add(int64(n)); return err })
	return errors.Join(err, <-sent)
}

func untilDeadline(f func([]byte) error) error {
	buffer := make([]byte, 128<<10)
	for {
		err := f(buffer)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// each runs f n times side by side; the first error ends all.
func each(ctx context.Context, n int, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for range n {
		work.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}
