package upstream

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
)

// Bounds and defaults of resolv.conf(5).
const (
	maxServers      = 8
	defaultTimeout  = 5 * time.Second
	maxTimeout      = 30 * time.Second
	defaultAttempts = 2
	maxAttempts     = 5
)

// resolvConf is what is used of a resolv.conf.
type resolvConf struct {
	servers  []netip.AddrPort
	timeout  time.Duration
	attempts int
	rotate   bool
}

func (c resolvConf) withDefaults() resolvConf {
	if len(c.servers) == 0 {
		c.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.attempts == 0 {
		c.attempts = defaultAttempts
	}
	return c
}

// parseResolvConf never fails: as in libc, lines that make no sense are skipped.
func parseResolvConf(data []byte) (resolvConf, error) {
	var c resolvConf
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, netip.AddrPortFrom(addr, 53))
			}
		case "options":
			for _, o := range fields[1:] {
				c.option(o)
			}
		}
	}
	return c, nil
}

func (c *resolvConf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case o == "rotate":
		c.rotate = true
	case name == "timeout" && err == nil && n > 0:
		c.timeout = min(time.Duration(min(n, 1000))*time.Second, maxTimeout)
	case name == "attempts" && err == nil && n > 0:
		c.attempts = min(n, maxAttempts)
	}
}

// hostsFile is name -> addresses, names in lower case.
type hostsFile map[string][]netip.Addr

// parseHosts reads hosts(5); lines that make no sense are skipped, and so are names that no
// host can have.
func parseHosts(data []byte) (hostsFile, error) {
	hosts := hostsFile{}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			if name = match.CanonicalName(name); match.IsHostName(name) {
				hosts[name] = append(hosts[name], addr)
			}
		}
	}
	return hosts, nil
}
