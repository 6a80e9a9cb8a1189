package xds

import (
	"cmp"
	"fmt"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Pings of a client's connection find a server that went away without a word.
const (
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
)

// Dial makes a client's connection to a server at host:port, or "unix:" and a path; t is
// nil for plain text. Nothing is sent before it is used. A name is looked up again for
// each connection. Connecting may take timeout; 0 means 5 s. How often the server is
// asked is the Client's to say, so the connection itself tries again soon. More may add
// what calls show of the caller.
func Dial(address string, t *TLS, timeout time.Duration, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if t != nil {
		var err error
		if creds, err = t.ClientCredentials(); err != nil {
			return nil, err
		}
	}
	pause := grpcbackoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: cmp.Or(timeout, 5*time.Second)}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithNoProxy(), // a control plane is not called through HTTPS_PROXY
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connection to %q: %w", address, err)
	}
	return conn, nil
}
