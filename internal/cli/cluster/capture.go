package cluster

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
)

// capture is which connections of a pod are led to its sidecar, as its istio-init container was
// told by the annotations traffic.sidecar.istio.io.
type capture struct {
	// nothing says why no connection is; "" where some are.
	nothing                      string
	everywhere                   bool // else includeRanges
	includeRanges, excludeRanges []netip.Prefix
	includePorts, excludePorts   []uint16
}

// captureOf reads the arguments of istio-init, which are those of istio-iptables.
func captureOf(pod *corev1.Pod) (c capture, err error) {
	setter := container(pod, "istio-init")
	if setter == nil {
		// istio-validation and the like: a CNI plugin led them there, by the annotations that it read.
		if container(pod, "istio-validation") != nil {
			return capture{everywhere: true}, nil
		}
		return capture{nothing: "pod " + fullName(pod) + " has a sidecar, but no container istio-init that leads connections to it (interceptionMode NONE): only calls that are addressed to the sidecar's listeners are decided there"}, nil
	}
	f := pflag.NewFlagSet("istio-iptables", pflag.ContinueOnError)
	f.ParseErrorsAllowlist.UnknownFlags = true
	f.SetOutput(io.Discard)
	include := f.StringP("istio-service-cidr", "i", "", "")
	exclude := f.StringP("istio-service-exclude-cidr", "x", "", "")
	includePorts := f.StringP("istio-outbound-ports", "q", "", "")
	excludePorts := f.StringP("istio-local-outbound-ports-exclude", "o", "", "")
	if err := f.Parse(setter.Args); err != nil {
		return c, fmt.Errorf("istio-init: %w", err)
	}
	if c.everywhere = *include == "*"; !c.everywhere {
		if c.includeRanges, err = list(*include, netip.ParsePrefix); err != nil {
			return c, fmt.Errorf("istio-init: -i: %w", err)
		}
	}
	if c.excludeRanges, err = list(*exclude, netip.ParsePrefix); err != nil {
		return c, fmt.Errorf("istio-init: -x: %w", err)
	}
	if c.includePorts, err = list(*includePorts, port); err != nil {
		return c, fmt.Errorf("istio-init: -q: %w", err)
	}
	if c.excludePorts, err = list(*excludePorts, port); err != nil {
		return c, fmt.Errorf("istio-init: -o: %w", err)
	}
	return c, nil
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// list reads what commas separate.
func list[T any](s string, one func(string) (T, error)) (out []T, err error) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		v, err := one(part)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// passesBy says why a connection is not led to the sidecar, in the order of the rules of
// internal/host/intercept; "" where it is. Of an address that is not known (not valid) only the
// port is judged.
func (c capture) passesBy(to netip.AddrPort) string {
	within := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(to.Addr()) })
	}
	const leaves = "; it does not go through the sidecar, and the mesh decides nothing for it"
	switch {
	case c.nothing != "":
		return c.nothing
	case slices.Contains(c.excludePorts, to.Port()):
		return fmt.Sprintf("port %d is left out by the annotation traffic.sidecar.istio.io/excludeOutboundPorts (or the value excludeOutboundPorts)%s", to.Port(), leaves)
	case !to.Addr().IsValid():
		return ""
	case to.Addr().IsLoopback():
		return "a call of the pod to itself" + leaves
	case within(c.excludeRanges):
		return fmt.Sprintf("%s is left out by the annotation traffic.sidecar.istio.io/excludeOutboundIPRanges (or the value excludeIPRanges)%s", to.Addr(), leaves)
	case c.everywhere || within(c.includeRanges) || slices.Contains(c.includePorts, to.Port()):
		return ""
	}
	return fmt.Sprintf("%s is not in what the annotation traffic.sidecar.istio.io/includeOutboundIPRanges (or the value includeIPRanges) brings in%s", to.Addr(), leaves)
}
