// Package egretd is the control plane as a program of its own: objects from files (Run) or
// from a Kubernetes cluster (RunCluster), xDS to whoever connects over TCP, with or without
// TLS, and what it does told over HTTP.
//
// It has no part of a proxy, and no policy of its own; it puts control/discovery on the
// network.
package egretd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/egret-mesh/egret/internal/xds"
)

// Addresses of Istio's control plane.
const (
	DefaultXDSAddress        = "127.0.0.1:15010"
	DefaultMonitoringAddress = "127.0.0.1:15014"
)

// Options of Run.
type Options struct {
	Paths []string // of YAML
	// XDSAddress serves xDS in plain text, TLSAddress with TLS, MonitoringAddress HTTP:
	// /ready, /metrics, /debug/syncz. "": not at all.
	XDSAddress, TLSAddress, MonitoringAddress string
	// TLS is for TLSAddress. With a CA clients need a certificate that comes from it.
	TLS    xds.TLS
	Logger *slog.Logger
	// Listening is told the addresses when all are open, in the order of the fields
	// above, nil where there is none; nil: nobody.
	Listening func(xds, tls, monitoring net.Addr)
}

// check refuses what cannot be meant.
func (o Options) check() error {
	switch {
	case len(o.Paths) == 0:
		return errors.New("no files: -f FOLDER says where the YAML is")
	case o.XDSAddress == "" && o.TLSAddress == "":
		return errors.New("nothing to serve: both --xds-address and --tls-address are empty")
	case o.TLSAddress == "" && o.TLS.Cert+o.TLS.Key+o.TLS.CA != "":
		return errors.New("certificates without --tls-address")
	case o.TLSAddress != "" && (o.TLS.Cert == "" || o.TLS.Key == ""):
		return errors.New("--tls-address needs --tls-cert and --tls-key")
	}
	return nil
}

// sockets are what egretd listens on; nil where it does not.
type sockets struct{ plain, secure, monitoring net.Listener }

func (o Options) listen() (s sockets, err error) {
	for _, l := range []struct {
		address string
		to      *net.Listener
	}{{o.XDSAddress, &s.plain}, {o.TLSAddress, &s.secure}, {o.MonitoringAddress, &s.monitoring}} {
		if l.address == "" {
			continue
		}
		if *l.to, err = net.Listen("tcp", l.address); err != nil {
			s.close()
			return sockets{}, fmt.Errorf("listen: %w", err)
		}
	}
	return s, nil
}

func (s sockets) close() {
	for _, l := range []net.Listener{s.plain, s.secure, s.monitoring} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s sockets) tell(f func(xds, tls, monitoring net.Addr)) {
	addr := func(l net.Listener) net.Addr {
		if l == nil {
			return nil
		}
		return l.Addr()
	}
	if f != nil {
		f(addr(s.plain), addr(s.secure), addr(s.monitoring))
	}
}

// logTo makes the logger of the program.
func logTo(out *os.File, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
}
