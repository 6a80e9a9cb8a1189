package standalone

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// ignoreEnd drops the error of something that ended because it was told to.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// openLog opens the log files of one proxy. What the configuration calls standard
// output is file, which exists from the start, so that it can be followed; other paths
// are not opened: the YAML's author decides what is recorded, the operator where to.
func openLog(file string) (func(string) (io.WriteCloser, error), error) {
	if file == "" {
		return func(string) (io.WriteCloser, error) { return discard{}, nil }, nil
	}
	open := func(string) (io.WriteCloser, error) {
		return os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	first, err := open(file)
	if err != nil {
		return nil, err
	}
	return open, first.Close()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// gatewaySockets listens on the gateway's address in the network of this process.
type gatewaySockets struct{ network *network }

func (s gatewaySockets) Listen(_ context.Context, l *resource.Listener) ([]net.Listener, error) {
	ln, err := s.network.listen(netip.AddrPortFrom(gatewayAddress, l.Address.Port()))
	if err != nil {
		return nil, err
	}
	return []net.Listener{ln}, nil
}

func (gatewaySockets) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	return netip.ParseAddrPort(c.LocalAddr().String())
}
