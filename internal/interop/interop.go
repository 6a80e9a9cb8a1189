// Package interop runs a command as Kubernetes would: in a network namespace of its own,
// behind a sidecar in another one, with an egress gateway in a third, all three of them
// apart from the control plane, which they know by its ADS only. Sidecar and gateway are
// each Egret's proxy or a stock Envoy. The scenario suite uses it to show that either half
// can be swapped (docs/interop.md).
//
// It must not make up configuration: what the proxies get is what the control plane makes
// of the objects, the same for each. And it must not judge: the scenarios do.
package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egret-mesh/egret/internal/standalone"
)

// Kind of a proxy.
type Kind string

// Kinds of proxies.
const (
	Egret Kind = "egret"
	Envoy Kind = "envoy"
)

// Cell is one of the combinations.
type Cell struct{ Sidecar, Gateway Kind }

// String is the cell's name, such as "envoy-egret": sidecar, gateway.
func (c Cell) String() string { return string(c.Sidecar) + "-" + string(c.Gateway) }

// ParseCell reads what String writes.
func ParseCell(s string) (Cell, error) {
	sidecar, gateway, _ := strings.Cut(s, "-")
	c := Cell{Kind(sidecar), Kind(gateway)}
	for _, k := range []Kind{c.Sidecar, c.Gateway} {
		if k != Egret && k != Envoy {
			return Cell{}, fmt.Errorf("%q is not a cell, such as envoy-egret (sidecar-gateway)", s)
		}
	}
	return c, nil
}

// Programs are the paths of what is run.
type Programs struct {
	Envoy, EgretProxy string
	Egretd            string // "": the control plane is in this process
}

// Options of Run.
type Options struct {
	Cell     Cell
	Programs Programs
	Command  []string
	Paths    []string // of YAML
	Workload standalone.Workload
	// AccessLog is the folder of the access logs; "": none are kept.
	AccessLog string
}

// readyLimit bounds how long the proxies may take to begin, endLimit how long they may
// take to end.
const (
	readyLimit = 60 * time.Second
	endLimit   = 10 * time.Second
)

// Run runs the command until it ends and returns its exit status, as a shell has it. The
// command has this process's standard input and output. The error is about what is
// around the command.
func Run(ctx context.Context, o Options) (int, error) {
	if o.AccessLog != "" {
		if err := os.MkdirAll(o.AccessLog, 0o755); err != nil {
			return 0, err
		}
	}
	scratch, err := os.MkdirTemp("", "egret-interop-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	net, err := newNetwork()
	if err != nil {
		return 0, fmt.Errorf("network: %w", err)
	}
	defer net.close()
	plane, err := newControlPlane(ctx, o, scratch)
	if err != nil {
		return 0, err
	}
	defer plane.close()
	addresses, err := plane.serve(net.sidecar, net.gateway)
	if err != nil {
		return 0, err
	}
	m := &meshRun{options: o, scratch: scratch, net: net, plane: plane}
	if err := m.start(ctx, addresses[0], addresses[1]); err != nil {
		return 0, errors.Join(err, m.stop(), plane.refusals())
	}
	code, err := runCommand(net.app, o.Command)
	return code, errors.Join(err, m.stop(), plane.refusals())
}

// meshRun is what runs around a command.
type meshRun struct {
	options          Options
	scratch          string
	net              *network
	plane            controlPlane
	names            *names
	sidecar, gateway *process
}

// start starts the proxies and waits until they are ready; each has its own address of
// the control plane.
func (m *meshRun) start(ctx context.Context, sidecarADS, gatewayADS string) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	var err error
	m.gateway, err = m.startProxy(m.options.Cell.Gateway, gatewayProxy(gatewayADS), m.net.gateway)
	if err != nil {
		return err
	}
	m.sidecar, err = m.startProxy(m.options.Cell.Sidecar, sidecarProxy(sidecarADS, m.options.Workload), m.net.sidecar)
	if err != nil {
		return err
	}
	if m.options.Cell.Sidecar == Envoy {
		if m.names, err = serveNames(m.plane, m.options.Workload, m.net.sidecar); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.Go(func() error { return m.gateway.ready(ctx) })
	g.Go(func() error { return m.sidecar.ready(ctx) })
	if m.names != nil {
		g.Go(func() error { return m.names.ready(ctx) })
	}
	return g.Wait()
}

// stop ends what start started, in the order in which a line of the log can still be
// due: the sidecar when nobody is connected to it, then the gateway.
func (m *meshRun) stop() error {
	var errs []error
	for _, p := range []*process{m.sidecar, m.gateway} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if m.names != nil {
		m.names.close()
	}
	return errors.Join(errs...)
}
