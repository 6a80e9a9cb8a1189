package xds

import (
	"context"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// switchConn is a connection whose server can be replaced, and which takes down the
// resources that come on delta streams, as "CDS name".
type switchConn struct {
	mu   sync.Mutex
	conn grpc.ClientConnInterface
	log  []string
}

func (c *switchConn) use(cc grpc.ClientConnInterface) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = cc
}

func (c *switchConn) current() grpc.ClientConnInterface {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

func (c *switchConn) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.log...)
}

func (c *switchConn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = nil
}

func (c *switchConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.current().Invoke(ctx, method, args, reply, opts...)
}

func (c *switchConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := c.current().NewStream(ctx, desc, method, opts...)
	return &seenStream{s, c}, err
}

type seenStream struct {
	grpc.ClientStream
	conn *switchConn
}

func (s *seenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if r, ok := m.(*discoveryv3.DeltaDiscoveryResponse); ok && err == nil {
		s.conn.mu.Lock()
		for _, res := range r.Resources {
			s.conn.log = append(s.conn.log, short(r.TypeUrl)+" "+res.Name)
		}
		s.conn.mu.Unlock()
	}
	return err
}
