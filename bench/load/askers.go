package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// answerTimeout bounds one request.
const answerTimeout = 10 * time.Second

// h1Asker is one keep-alive connection.
type h1Asker struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

func newH1Askers(ctx context.Context, o rateOptions) (out []asker, err error) {
	for range o.workers {
		a, err := newH1Asker(ctx, &net.Dialer{}, o.address, o.host, o.path, 4096)
		if err != nil {
			return out, err
		}
		out = append(out, a)
	}
	return out, nil
}

func newH1Asker(ctx context.Context, d *net.Dialer, address, host, path string, buffer int) (*h1Asker, error) {
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &h1Asker{
		conn: conn, in: bufio.NewReaderSize(conn, buffer),
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n", path, host),
	}, nil
}

func (a *h1Asker) close() { _ = a.conn.Close() }

func (a *h1Asker) ask(context.Context) error {
	if err := a.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := a.conn.Write(a.request); err != nil {
		return err
	}
	r, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return err
	}
	return judge(r)
}

// judge reads the answer to its end.
func judge(r *http.Response) error {
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s (%s)", r.Status, r.Header.Get("x-egret-reason"))
	}
	if r.Close {
		return errors.New("the connection is not kept alive")
	}
	return nil
}

// h2Asker is one stream at a time of a connection that many share.
type h2Asker struct {
	transport *http.Transport
	o         rateOptions
}

func newH2Askers(o rateOptions) (out []asker, err error) {
	t := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, o.address)
		},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	for range o.workers {
		out = append(out, &h2Asker{t, o})
	}
	return out, nil
}

func (a *h2Asker) close() { a.transport.CloseIdleConnections() }

func (a *h2Asker) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.o.host+a.o.path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "bench")
	resp, err := a.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	return judge(resp)
}
