package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/standalone"
	"github.com/egret-mesh/egret/internal/xds"
)

// daemon is the control plane as a process: the real egretd, over the same files and one
// more, with the gateway's service, which it has from nowhere else.
type daemon struct {
	process         *process
	xds, monitoring string
	conn            *grpc.ClientConn
	relays          []net.Listener
	work            sync.WaitGroup
}

func startDaemon(ctx context.Context, o Options, scratch string) (*daemon, error) {
	service := filepath.Join(scratch, "gateway-service.yaml")
	if err := writeGatewayService(service, o.Paths); err != nil {
		return nil, err
	}
	args := []string{"--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0", "-f", service}
	for _, path := range o.Paths {
		args = append(args, "-f", path)
	}
	said := filepath.Join(scratch, "egretd.err")
	stderr, err := os.Create(said)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }() // the process has its own
	cmd := exec.Command(o.Programs.Egretd, args...)
	cmd.Stderr = stderr
	here, err := thisNamespace()
	if err != nil {
		return nil, err
	}
	d := &daemon{}
	if d.process, err = startProcess("egretd", here, said, cmd); err != nil {
		return nil, err
	}
	if err := d.begin(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// writeGatewayService writes what egret run has built in as a ServiceEntry.
func writeGatewayService(path string, paths []string) error {
	files, err := source.Files(paths, source.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	return os.WriteFile(path, []byte(gatewayService(standalone.Registry(files.Current().Objects).BuiltIn[0])), 0o644)
}

func gatewayService(s *mesh.Service) string {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: %s}
spec:
  hosts: [%s]
  location: MESH_INTERNAL
  resolution: STATIC
`, s.Source.Name, s.Namespace, s.Host)
	fmt.Fprintf(&b, "  addresses: [%s]\n  ports:\n", s.Addresses[0])
	for _, p := range s.Ports {
		fmt.Fprintf(&b, "  - {number: %d, name: %s, protocol: %s", p.Number, p.Name, p.Declared)
		if p.TargetPort != 0 {
			fmt.Fprintf(&b, ", targetPort: %d", p.TargetPort)
		}
		b.WriteString("}\n")
	}
	b.WriteString("  endpoints:\n")
	for _, e := range s.Endpoints {
		fmt.Fprintf(&b, "  - {address: %s, labels: {", e.Address)
		for name, value := range e.Labels {
			fmt.Fprintf(&b, "%s: %s, ", name, value)
		}
		b.WriteString("}}\n")
	}
	return b.String()
}

var daemonReady = regexp.MustCompile(`msg=ready xds=(\S+) tls=\S+ monitoring=(\S+)`)

// begin waits until it says where it listens.
func (d *daemon) begin(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := daemonReady.FindStringSubmatch(d.process.said()); m != nil {
			d.xds, d.monitoring = m[1], m[2]
			break
		}
		select {
		case <-tick.C:
		case <-d.process.ended:
			return fmt.Errorf("egretd ended: %w\n%s", d.process.err, d.process.said())
		case <-ctx.Done():
			return fmt.Errorf("egretd is not ready: %w\n%s", ctx.Err(), d.process.said())
		}
	}
	var err error
	d.conn, err = xds.Dial(d.xds, nil, 0)
	return err
}

// serve hands connections to a free port of each namespace's loopback on to egretd, until
// close. It returns the addresses.
func (d *daemon) serve(all ...*namespace) ([]string, error) {
	var addresses []string
	for _, ns := range all {
		var ln net.Listener
		if err := ns.do(func() (err error) { ln, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
			return nil, err
		}
		d.relays = append(d.relays, ln)
		addresses = append(addresses, ln.Addr().String())
		d.work.Go(func() { d.relay(ln) })
	}
	return addresses, nil
}

func (d *daemon) relay(ln net.Listener) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return // close
		}
		far, err := net.Dial("tcp", d.xds)
		if err != nil {
			_ = near.Close()
			continue
		}
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_, _ = to.Close(), from.Close()
		}
		d.work.Go(func() { pass(near, far) })
		d.work.Go(func() { pass(far, near) })
	}
}

func (d *daemon) names() (grpc.ClientConnInterface, func() error, error) {
	return d.conn, func() error { return nil }, nil
}

// refusals is an error for each thing that a connected proxy refuses of its configuration.
func (d *daemon) refusals() error {
	resp, err := http.Get("http://" + d.monitoring + "/debug/syncz")
	if err != nil {
		return fmt.Errorf("egretd: %w\n%s", err, d.process.said())
	}
	defer func() { _ = resp.Body.Close() }()
	var all []discovery.SyncStatus
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return fmt.Errorf("egretd: %w", err)
	}
	var errs []error
	for _, n := range all {
		for _, t := range n.Types {
			if t.Nack != "" {
				errs = append(errs, fmt.Errorf("%s refuses %s: %s", n.Proxy, t.TypeURL, t.Nack))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *daemon) close() {
	for _, ln := range d.relays {
		_ = ln.Close()
	}
	if d.conn != nil {
		_ = d.conn.Close()
	}
	_ = d.process.stop()
	d.work.Wait()
	http.DefaultClient.CloseIdleConnections()
}
