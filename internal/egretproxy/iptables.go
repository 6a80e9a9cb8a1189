package egretproxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egret-mesh/egret/internal/host/intercept"
)

// captureTable is the name of the pod's table: one name, so that a second run replaces
// what the first made.
const captureTable = "istio"

// captureFlags are those of istio-iptables that mean something here, as given.
type captureFlags struct {
	outboundPort, inboundPort, tunnelPort string
	uids, gids                            string
	mode                                  string
	includeRanges, excludeRanges          string
	includePorts, excludePorts            string
	includeInbound, excludeInbound        string
	excludeInterfaces, virtualInterfaces  string
	redirectDNS, allDNS, dropInvalid      bool
	dryRun                                bool
}

// meaningless are flags of istio-iptables about its iptables program or its tests.
var meaningless = []string{
	"istio-inbound-tproxy-mark", "istio-inbound-tproxy-route-table", "iptables-trace-logging", "nftables-trace-logging", "restore-format",
	"iptables-probe-port", "nftables-probe-port", "probe-timeout", "dual-stack", "native-nftables", "force-iptables-binary", "reconcile", "force-apply",
	"log_output_level", "log_as_json",
}

// refusedFlags ask for what is not done here; to go on without them would capture
// something else than was meant.
var refusedFlags = []struct{ name, why string }{
	{"cni-mode", "there is no CNI plugin; the rules are for the namespace that this runs in"},
	{"network-namespace", "the rules are for the namespace that this runs in"},
	{"skip-rule-apply", "there is no CNI plugin that would have made the rules"},
	{"run-validation", "there is no CNI plugin that would have made the rules"},
	{"cleanup-only", "the rules end with the pod's network namespace"},
}

// newCaptureCommand is what the init container of an Istio pod calls.
func newCaptureCommand(out, errs *os.File) *cobra.Command {
	var c captureFlags
	cmd := &cobra.Command{
		Use:   "istio-iptables",
		Short: "Lead a pod's traffic to its proxy, in the place of Istio's init container",
		Long: `Sets nftables in the network namespace that it runs in, by netlink and in one
transaction: TCP that leaves goes to -p, TCP that comes in to -z, but for what the flags
exclude and what the proxy itself (-u, -g) sends. As long as the proxy does not listen,
captured connections are refused. A second run replaces the rules of the first.

It needs CAP_NET_ADMIN. Flags of istio-iptables about the iptables program are told, and
left out; those that ask for what is not done here are refused by name.`,
		Example:       `  egret-proxy istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -x "" -b '*' -d 15090,15021,15020`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCapture(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			if left := given(cmd.Flags(), meaningless); len(left) > 0 {
				slog.New(slog.NewTextHandler(errs, nil)).Info("given, but not used", "what", strings.Join(left, " "))
			}
			resolvConf, err := os.Open("/etc/resolv.conf")
			if err == nil {
				defer func() { _ = resolvConf.Close() }()
			} else if c.redirectDNS && !c.allDNS {
				return fmt.Errorf("--redirect-dns: %w", err)
			}
			pod, err := c.pod(resolvConf)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprint(out, pod); err != nil || c.dryRun {
				return err
			}
			return pod.Apply()
		},
	}
	c.register(cmd.Flags(), os.Getenv)
	return cmd
}

// register adds the flags of istio-iptables (istio.io/istio/tools/istio-iptables/pkg/cmd).
func (c *captureFlags) register(f *pflag.FlagSet, env func(string) string) {
	f.StringVarP(&c.outboundPort, "envoy-port", "p", "15001", "`port` of the proxy for what leaves")
	f.StringVarP(&c.inboundPort, "inbound-capture-port", "z", "15006", "`port` of the proxy for what comes in")
	f.StringVarP(&c.tunnelPort, "inbound-tunnel-port", "e", "15008", "`port` of the mesh's tunnels, not captured")
	f.StringVarP(&c.uids, "proxy-uid", "u", "1337", "`users` of the proxy, not captured")
	f.StringVarP(&c.gids, "proxy-gid", "g", "", "`groups` of the proxy, not captured; \"\": as -u")
	f.StringVarP(&c.mode, "istio-inbound-interception-mode", "m", "REDIRECT", "`mode`: REDIRECT")
	f.StringVarP(&c.includeRanges, "istio-service-cidr", "i", "", "`ranges` of addresses that are captured, or *; \"\": none")
	f.StringVarP(&c.excludeRanges, "istio-service-exclude-cidr", "x", "", "`ranges` of addresses that are not")
	f.StringVarP(&c.includePorts, "istio-outbound-ports", "q", "", "`ports` that are captured to whatever address")
	f.StringVarP(&c.excludePorts, "istio-local-outbound-ports-exclude", "o", "", "`ports` to which nothing is captured")
	f.StringVarP(&c.includeInbound, "istio-inbound-ports", "b", "", "`ports` of the pod that are captured, or *; \"\": none")
	f.StringVarP(&c.excludeInbound, "istio-local-exclude-ports", "d", "", "`ports` of the pod that are not")
	f.StringVarP(&c.excludeInterfaces, "istio-exclude-interfaces", "c", "", "`interfaces` by which nothing is captured")
	f.StringVarP(&c.virtualInterfaces, "kube-virt-interfaces", "k", "", "`interfaces` from which what comes in is outbound")
	f.BoolVar(&c.redirectDNS, "redirect-dns", env("ISTIO_META_DNS_CAPTURE") == "true", "lead DNS to the servers of /etc/resolv.conf to the proxy")
	f.BoolVar(&c.allDNS, "capture-all-dns", false, "with --redirect-dns: DNS to all servers")
	f.BoolVar(&c.dropInvalid, "drop-invalid", env("INVALID_DROP") == "true", "drop packets that belong to no connection")
	f.BoolVarP(&c.dryRun, "dry-run", "n", false, "print the rules only")
	short := map[string]string{"istio-inbound-tproxy-mark": "t", "istio-inbound-tproxy-route-table": "r", "restore-format": "f"}
	for _, name := range meaningless {
		f.StringP(name, short[name], "", "means nothing here")
	}
	for _, r := range refusedFlags {
		f.String(r.name, "", "refused: "+r.why)
	}
	for _, name := range []string{"iptables-trace-logging", "nftables-trace-logging", "restore-format", "dual-stack", "native-nftables", "reconcile", "force-apply", "log_as_json", "cni-mode", "skip-rule-apply", "run-validation", "cleanup-only"} {
		f.Lookup(name).NoOptDefVal = "true"
	}
}

// given are those of the flags that the command line has.
func given(f *pflag.FlagSet, names []string) (out []string) {
	for _, name := range names {
		if f.Changed(name) {
			out = append(out, "--"+name)
		}
	}
	return out
}

// checkCapture refuses what asks for something that is not done here.
func checkCapture(f *pflag.FlagSet, environ []string) error {
	for _, r := range refusedFlags {
		if value := f.Lookup(r.name).Value.String(); value != "" && value != "false" {
			return fmt.Errorf("--%s: %s", r.name, r.why)
		}
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		everybody := name == "ISTIO_OUTBOUND_OWNER_GROUPS" && value == "*"
		if (name == "ISTIO_OUTBOUND_OWNER_GROUPS" || name == "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE") && value != "" && !everybody {
			return fmt.Errorf("%s=%q: all groups but the proxy's are captured", name, value)
		}
	}
	return nil
}

// pod makes the ruleset; resolvConf is read where the DNS servers are wanted.
func (c captureFlags) pod(resolvConf io.Reader) (p intercept.Pod, err error) {
	if c.mode != "REDIRECT" && c.mode != "" {
		return p, fmt.Errorf("--istio-inbound-interception-mode: %q is not done here, only REDIRECT", c.mode)
	}
	var errs []error
	read := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
	}
	p.Table, p.DropInvalid = captureTable, c.dropInvalid
	p.OutboundPort, err = onePort(c.outboundPort)
	read("envoy-port", err)
	p.InboundPort, err = onePort(c.inboundPort)
	read("inbound-capture-port", err)
	p.TunnelPort, err = onePort(c.tunnelPort)
	read("inbound-tunnel-port", err)
	p.UIDs, err = list(c.uids, identifier)
	read("proxy-uid", err)
	if p.GIDs, err = list(c.gids, identifier); c.gids == "" {
		p.GIDs = p.UIDs
	}
	read("proxy-gid", err)
	if p.AllOutbound = c.includeRanges == "*"; !p.AllOutbound {
		p.IncludeRanges, err = list(c.includeRanges, netip.ParsePrefix)
		read("istio-service-cidr", err)
	}
	p.ExcludeRanges, err = list(c.excludeRanges, netip.ParsePrefix)
	read("istio-service-exclude-cidr", err)
	p.IncludePorts, err = list(c.includePorts, onePort)
	read("istio-outbound-ports", err)
	p.ExcludePorts, err = list(c.excludePorts, onePort)
	read("istio-local-outbound-ports-exclude", err)
	if p.AllInbound = c.includeInbound == "*"; !p.AllInbound {
		p.IncludeInbound, err = list(c.includeInbound, onePort)
		read("istio-inbound-ports", err)
	}
	p.ExcludeInbound, err = list(c.excludeInbound, onePort)
	read("istio-local-exclude-ports", err)
	p.ExcludeInterfaces, err = list(c.excludeInterfaces, device)
	read("istio-exclude-interfaces", err)
	p.VirtualInterfaces, err = list(c.virtualInterfaces, device)
	read("kube-virt-interfaces", err)
	if c.redirectDNS {
		p.DNSPort = intercept.DNSPort
		if !c.allDNS {
			p.DNSServers, err = servers(resolvConf)
			read("redirect-dns", err)
		}
	}
	return p, errors.Join(errs...)
}

// servers are those of resolv.conf(5).
func servers(resolvConf io.Reader) (out []netip.Addr, err error) {
	config, err := dns.ClientConfigFromReader(io.LimitReader(resolvConf, 1<<16))
	if err != nil {
		return nil, fmt.Errorf("resolv.conf: %w", err)
	}
	for _, s := range config.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("resolv.conf: %w", err)
		}
		out = append(out, a.Unmap().WithZone(""))
	}
	if len(out) == 0 {
		return nil, errors.New("resolv.conf has no nameserver; --capture-all-dns needs none")
	}
	return out, nil
}

// list reads what commas separate; nothing twice.
func list[T comparable](text string, one func(string) (T, error)) (out []T, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		v, err := one(part)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out, nil
}

func onePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return uint16(n), nil
}

func identifier(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no user or group id", text)
	}
	return uint32(n), nil
}

// device is the name of an interface: at most 15 bytes (linux/if.h IFNAMSIZ), of which the
// kernel refuses "/", ":" and spaces (net/core/dev.c dev_valid_name); it is printed in quotes.
func device(text string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/:"\`, r) }
	if len(text) > 15 || strings.ContainsFunc(text, odd) {
		return "", fmt.Errorf("%q is no name of an interface", text)
	}
	return text, nil
}
