package egretproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/socket"
	"github.com/egret-mesh/egret/internal/host/intercept"
)

// machine listens on the addresses that the configuration says.
type machine struct{}

// Listen opens one socket per address of the listener, all or none.
func (machine) Listen(ctx context.Context, l *resource.Listener) ([]net.Listener, error) {
	var out []net.Listener
	for _, at := range append([]netip.AddrPort{l.Address}, l.AdditionalAddresses...) {
		ln, err := socket.Listen(ctx, at)
		if err != nil {
			for _, open := range out {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		out = append(out, ln)
	}
	return out, nil
}

// OriginalDestination asks the kernel (SO_ORIGINAL_DST). A connection that was not
// redirected went to the listener itself.
func (machine) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	return intercept.OriginalDestination(c)
}
