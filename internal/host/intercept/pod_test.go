package intercept

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func samplePod() Pod {
	return Pod{
		Table: "istio", OutboundPort: TCPPort, InboundPort: InboundPort, TunnelPort: 15008,
		UIDs: []uint32{1337}, GIDs: []uint32{1337}, AllOutbound: true, AllInbound: true,
		ExcludeRanges:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/48")},
		ExcludePorts:   []uint16{9000},
		ExcludeInbound: []uint16{15020, 15021},
	}
}

const podText = `table inet istio {
	chain nat_output {
		type nat hook output priority -100; policy accept;
		tcp dport 9000 return
		udp dport 9000 return
		oifname "lo" ip saddr 127.0.0.6 return
		oifname "lo" ip6 saddr ::6 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skuid 1337 redirect to :15006
		oifname "lo" ip6 daddr != ::1 tcp dport != 15008 meta skuid 1337 redirect to :15006
		oifname "lo" meta skuid != 1337 return
		meta skuid 1337 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skgid 1337 redirect to :15006
		oifname "lo" ip6 daddr != ::1 tcp dport != 15008 meta skgid 1337 redirect to :15006
		oifname "lo" meta skgid != 1337 return
		meta skgid 1337 return
		ip daddr 127.0.0.1 return
		ip6 daddr ::1 return
		ip daddr 198.51.100.0/24 return
		ip6 daddr 2001:db8:1::/48 return
		meta l4proto tcp redirect to :15001
	}
	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
		tcp dport 15008 return
		tcp dport 15020 return
		tcp dport 15021 return
		meta l4proto tcp redirect to :15006
	}
}
`

func TestTextOfAPod(t *testing.T) {
	if diff := cmp.Diff(podText, samplePod().String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// few is a pod of which only what is named is captured.
func few() Pod {
	return Pod{
		Table: "istio", OutboundPort: TCPPort, InboundPort: InboundPort, TunnelPort: 15008, UIDs: []uint32{1337},
		IncludeRanges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("127.0.0.8/32")}, IncludePorts: []uint16{443},
		IncludeInbound: []uint16{80}, ExcludeInterfaces: []string{"net1"}, VirtualInterfaces: []string{"vm0"},
		DNSPort: DNSPort, DNSServers: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::a")}, DropInvalid: true,
	}
}

const fewText = `table inet istio {
	chain nat_output {
		type nat hook output priority -100; policy accept;
		oifname "net1" return
		oifname "lo" ip saddr 127.0.0.6 return
		oifname "lo" ip6 saddr ::6 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 tcp dport != 53 meta skuid 1337 redirect to :15006
		oifname "lo" ip6 daddr != ::1 tcp dport != 15008 tcp dport != 53 meta skuid 1337 redirect to :15006
		meta skuid 1337 return
		tcp dport 53 ip daddr 10.96.0.10 redirect to :15053
		tcp dport 53 ip6 daddr fd00::a redirect to :15053
		udp dport 53 ip daddr 10.96.0.10 redirect to :15053
		udp dport 53 ip6 daddr fd00::a redirect to :15053
		ip daddr 127.0.0.1 return
		ip6 daddr ::1 return
		tcp dport 443 redirect to :15001
		ip daddr 10.96.0.0/12 meta l4proto tcp redirect to :15001
		ip daddr 127.0.0.8 meta l4proto tcp redirect to :15001
	}
	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "vm0" ip daddr 10.96.0.0/12 meta l4proto tcp redirect to :15001
		iifname "vm0" ip daddr 127.0.0.8 meta l4proto tcp redirect to :15001
		iifname "vm0" return
		iifname "net1" return
		tcp dport 15008 return
		tcp dport 80 redirect to :15006
	}
	chain raw_output {
		type filter hook output priority -300; policy accept;
		udp dport 53 meta skuid 1337 ct zone set 1 return
		udp sport 15053 meta skuid 1337 ct zone set 2 return
		udp dport 53 ip daddr 10.96.0.10 ct zone set 2
		udp dport 53 ip6 daddr fd00::a ct zone set 2
	}
	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		udp sport 53 ip saddr 10.96.0.10 ct zone set 1
		udp sport 53 ip6 saddr fd00::a ct zone set 1
	}
	chain mangle_prerouting {
		type filter hook prerouting priority -150; policy accept;
		ct state invalid drop
	}
}
`

func TestTextOfFew(t *testing.T) {
	if diff := cmp.Diff(fewText, few().String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// podRulesInside applies a pod's table twice, and prints what nft sees.
func podRulesInside(p Pod) error {
	if err := errors.Join(p.Apply(), p.Apply()); err != nil {
		return err
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil
	}
	cmd := exec.Command(nft, "-n", "list", "ruleset")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}

// What the kernel has is what String says, as the nft program reads it.
func TestKernelHasThePodsTable(t *testing.T) {
	same := strings.NewReplacer(
		"meta l4proto 6 ", "meta l4proto tcp ", "\n\n", "\n", "th dport", "dport",
		" priority dstnat;", " priority -100;", " priority filter;", " priority 0;", " priority raw;", " priority -300;", " priority mangle;", " priority -150;",
		"ct state 0x1 ", "ct state invalid ",
	)
	for name, want := range map[string]string{"pod": podText, "few": fewText} {
		got := inside(t, name)
		if got == "" {
			t.Skip("applied, but this machine has no nft to read it back")
		}
		if diff := cmp.Diff(want, same.Replace(got)); diff != "" {
			t.Errorf("%s: -text +kernel:\n%s", name, diff)
		}
	}
}

// Users of the traffic test.
const (
	application = 1000
	proxy       = 1337
)

// call is one connection, or one datagram and its answer, by a process of a user.
type call struct {
	uid, gid     uint32
	network      string
	from, to     string
	want, reason string
}

const (
	podAddress, podAddress6     = "192.0.2.7", "2001:db8::7"
	worldAddress, worldAddress6 = "192.0.2.9", "2001:db8::9"
)

// calls with the sample's rules, DNS captured; the world is the other end of the pod's link.
var calls = []call{
	{application, application, "tcp", "", "192.0.2.9:8443", "outbound 192.0.2.9:8443", "the application's connection"},
	{application, application, "tcp", "", "[2001:db8::9]:8443", "outbound [2001:db8::9]:8443", "IPv6, too"},
	{0, 0, "tcp", "", "192.0.2.9:8443", "outbound 192.0.2.9:8443", "root's connection"},
	{proxy, proxy, "tcp", "", "192.0.2.9:8443", "world", "the proxy's connection"},
	{proxy, proxy, "tcp", "", "[2001:db8::9]:8443", "world", "the proxy's connection by IPv6"},
	{application, proxy, "tcp", "", "192.0.2.9:8443", "world", "the proxy is its group, too"},
	{application, application, "tcp", "", "192.0.2.9:9000", "world", "a port that is excluded"},
	{application, application, "tcp", "", "198.51.100.9:8443", "world", "a range that is excluded"},
	{application, application, "tcp", "", "127.0.0.1:8080", "application from 127.0.0.1", "to itself"},
	{application, application, "tcp", "", "192.0.2.7:8080", "application from 192.0.2.7", "to itself by the pod's address"},
	{proxy, proxy, "tcp", "", "192.0.2.7:8080", "inbound 192.0.2.7:8080", "of the proxy, for a call of the application to its own service"},
	{proxy, proxy, "tcp", "", "[2001:db8::7]:8080", "inbound [2001:db8::7]:8080", "the same by IPv6"},
	{proxy, proxy, "tcp", "127.0.0.6", "192.0.2.7:8080", "application from 127.0.0.6", "of the proxy for what came in"},
	{proxy, proxy, "tcp", "::6", "[2001:db8::7]:8080", "application from ::6", "the same by IPv6"},
	{proxy, proxy, "tcp", "", "127.0.0.1:8080", "application from 127.0.0.1", "of the proxy to lo"},
	{application, application, "udp", "192.0.2.7:5353", "192.0.2.9:53", "names", "a query"},
	{proxy, proxy, "udp", "192.0.2.7:5353", "192.0.2.9:53", "world", "the proxy's query by the same port"},
	{application, application, "udp", "192.0.2.7:5353", "192.0.2.9:53", "names", "and the application's again"},
	{application, application, "tcp", "", "192.0.2.9:53", "names", "a query over TCP"},
	{application, application, "udp", "", "192.0.2.9:8443", "world", "other UDP"},
}

// callsFromOutside are of the world.
var callsFromOutside = []call{
	{0, 0, "tcp", "", "192.0.2.7:8080", "inbound 192.0.2.7:8080", "to the application"},
	{0, 0, "tcp", "", "[2001:db8::7]:8080", "inbound [2001:db8::7]:8080", "by IPv6"},
	{0, 0, "tcp", "", "192.0.2.7:15021", "application from 192.0.2.9", "to a port that is excluded"},
}

func TestTrafficOfAPod(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: two users in a network namespace")
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "EGRET_TEST_INSIDE=traffic")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// trafficInside prints what is not as it should be.
func trafficInside() error {
	n, err := newPodNetwork()
	if err != nil {
		return err
	}
	p := samplePod()
	p.DNSPort = DNSPort
	if err := errors.Join(n.inPod(p.Apply), n.inPod(p.Apply)); err != nil {
		return err
	}
	// Before the proxy listens nothing leaves.
	refused := call{application, application, "tcp", "", "192.0.2.9:8443", "connection refused", "before there is a proxy"}
	if err := n.inPod(refused.make); err != nil {
		return err
	}
	if err := n.serve(); err != nil {
		return err
	}
	for _, c := range calls {
		if err := n.inPod(c.make); err != nil {
			fmt.Println(err)
		}
	}
	for _, c := range callsFromOutside {
		if err := n.inWorld(c.make); err != nil {
			fmt.Println(err)
		}
	}
	return nil
}

// make runs this program as the caller.
func (c call) make() error {
	cmd := exec.Command("/proc/self/exe", c.network, c.from, c.to) // others may not reach its folder
	cmd.Env = append(os.Environ(), "EGRET_TEST_INSIDE=call")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); got != c.want {
		return fmt.Errorf("%s (user %d to %s): %q %v, want %q", c.reason, c.uid, c.to, got, err, c.want)
	}
	return nil
}

// callInside is the caller: it prints what it is answered, or why not.
func callInside(network, from, to string) error {
	d := net.Dialer{Timeout: patience}
	if at, err := netip.ParseAddrPort(from); err == nil {
		d.LocalAddr = net.UDPAddrFromAddrPort(at)
	} else if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: netip.MustParseAddr(from).AsSlice()}
	}
	c, err := d.Dial(network, to)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return syscall.ECONNREFUSED
	}
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 512)
	k, err := c.Read(b)
	fmt.Println(string(b[:k]))
	return err
}
