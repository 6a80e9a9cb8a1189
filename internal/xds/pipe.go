package xds

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// Pipe is a connection to a server in the same process: the same gRPC as over a
// network, in memory. It is a grpc.ClientConnInterface for NewClient.
type Pipe struct {
	*grpc.ClientConn
	server *grpc.Server
	served sync.WaitGroup
}

// pipeBuffer is the size of the in-memory connection's buffer, each way, in bytes.
const pipeBuffer = 256 << 10

// NewPipe serves s in memory and connects to it. Close ends it.
func NewPipe(s *Server) (*Pipe, error) {
	listener := bufconn.Listen(pipeBuffer)
	conn, err := grpc.NewClient("passthrough:///pipe",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		return nil, fmt.Errorf("in-memory connection: %w", err)
	}
	p := &Pipe{ClientConn: conn, server: grpc.NewServer(GRPCOptions()...)}
	s.Register(p.server)
	p.served.Go(func() { p.server.Serve(listener) }) // ends with Close
	return p, nil
}

// Close ends the connection, all its streams, and waits for its goroutines.
func (p *Pipe) Close() error {
	err := p.ClientConn.Close()
	p.server.Stop()
	p.served.Wait()
	return err
}
