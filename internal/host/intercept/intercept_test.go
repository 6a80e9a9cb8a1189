package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

func sample() Ruleset {
	return Ruleset{
		Table: "egret",
		Local: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.0.2/32"),
			netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fd65:6772::/33"),
		},
		TCPPort: TCPPort, DNSPort: DNSPort, LogGroup: 7, LogRate: 50,
	}
}

const sampleText = `table inet egret {
	chain nat_output {
		type nat hook output priority -100; policy accept;
		tcp dport 53 redirect to :15053
		udp dport 53 redirect to :15053
		ip daddr 127.0.0.0/8 return
		ip daddr 192.0.0.2 return
		ip6 daddr ::1 return
		ip6 daddr fd65:6772::/33 return
		meta l4proto tcp redirect to :15001
	}
	chain filter_output {
		type filter hook output priority 0; policy drop;
		ip daddr 127.0.0.0/8 accept
		ip daddr 192.0.0.2 accept
		ip6 daddr ::1 accept
		ip6 daddr fd65:6772::/33 accept
		limit rate 50/second burst 50 packets log group 7 snaplen 160 queue-threshold 1
		reject with icmpx admin-prohibited
	}
}
`

func TestText(t *testing.T) {
	if diff := cmp.Diff(sampleText, sample().String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	silent := sample()
	silent.LogRate = 0
	if strings.Contains(silent.String(), "log") {
		t.Errorf("a ruleset without log:\n%s", silent)
	}
}

const routerText = `table inet egret {
	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "app0" tcp dport 53 redirect to :15053
		iifname "app0" udp dport 53 redirect to :15053
		iifname "app0" meta l4proto tcp redirect to :15001
	}
	chain filter_forward {
		type filter hook forward priority 0; policy drop;
		iifname "app0" reject with icmpx admin-prohibited
	}
}
`

func TestTextOfARouter(t *testing.T) {
	router := Ruleset{Table: "egret", TCPPort: TCPPort, DNSPort: DNSPort, Incoming: "app0"}
	if diff := cmp.Diff(routerText, router.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestMain: the test binary is also the program that runs in a network namespace.
func TestMain(m *testing.M) {
	switch os.Getenv("EGRET_TEST_INSIDE") {
	case "rules":
		os.Exit(report(rulesInside()))
	case "capture":
		os.Exit(report(captureInside()))
	case "pod":
		os.Exit(report(podRulesInside(samplePod())))
	case "few":
		os.Exit(report(podRulesInside(few())))
	case "traffic":
		os.Exit(report(trafficInside()))
	case "call":
		os.Exit(report(callInside(os.Args[1], os.Args[2], os.Args[3])))
	}
	os.Exit(m.Run())
}

func report(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// inside runs a function of this binary as root of new user and network namespaces.
func inside(t *testing.T, name string) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "EGRET_TEST_INSIDE="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("this machine does not allow user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// rulesInside applies the ruleset twice (the second replaces the first) and prints
// what nft sees.
func rulesInside() error {
	if err := errors.Join(sample().Apply(), sample().Apply()); err != nil {
		return err
	}
	fresh, err := sample().Batch(false)
	if err != nil {
		return err
	}
	if err := netns.Exchange(unix.NETLINK_NETFILTER, fresh); !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("a second table was made, or another error: %v", err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil
	}
	cmd := exec.Command(nft, "-n", "list", "ruleset")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}

// What the kernel has after Apply is what String says, as the nft program reads it.
func TestKernelHasWhatTheTextSays(t *testing.T) {
	got := inside(t, "rules")
	if got == "" {
		t.Skip("applied, but this machine has no nft to read it back")
	}
	// nft's own way to write the same.
	same := strings.NewReplacer(
		"meta l4proto 6 ", "meta l4proto tcp ", "\n\n", "\n", "reject with icmpx 3", "reject with icmpx admin-prohibited",
		"th dport", "dport", " priority dstnat;", " priority -100;", " priority filter;", " priority 0;",
		"log group 7 snaplen 160 queue-threshold 1", "log group 7 snaplen 160 queue-threshold 1",
	)
	if diff := cmp.Diff(sampleText, same.Replace(got)); diff != "" {
		t.Errorf("-text +kernel:\n%s", diff)
	}
}

// captureInside opens a connection to a foreign address and prints where the
// listener says it was going.
func captureInside() error {
	rules := sample()
	rules.Local[3] = netip.MustParsePrefix("fd65:6772::2/128")
	if err := rules.Apply(); err != nil {
		return err
	}
	for _, r := range Loopback(netip.MustParseAddr("192.0.0.2"), netip.MustParseAddr("fd65:6772::2")) {
		if err := netns.Exchange(r.Protocol, r.Data); err != nil && !r.Optional {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	for _, c := range [][2]string{{"127.0.0.1:15001", "203.0.113.9:8443"}, {"[::1]:15001", "[2001:db8::9]:25"}} {
		destination, err := capturedAt(c[0], c[1])
		if err != nil {
			return err
		}
		fmt.Println(destination)
	}
	return nil
}

func capturedAt(listen, dial string) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", dial)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = c.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = accepted.Close() }()
	return OriginalDestination(accepted)
}

func TestOriginalDestination(t *testing.T) {
	if diff := cmp.Diff("203.0.113.9:8443\n[2001:db8::9]:25\n", inside(t, "capture")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOriginalDestinationOfOtherThings(t *testing.T) {
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if _, err := OriginalDestination(a); err == nil {
		t.Error("a pipe has an original destination")
	}
}

// Packets as they are on the wire.
func ipv4(proto byte, fragment uint16, payload ...byte) []byte {
	b := make([]byte, 20)
	b[0], b[9] = 0x45, proto
	binary.BigEndian.PutUint16(b[6:], fragment)
	copy(b[12:], []byte{192, 0, 0, 2, 8, 8, 8, 8})
	return append(b, payload...)
}

func ipv6(next byte, payload ...byte) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	b[8], b[23], b[24], b[39] = 0xfd, 2, 0x20, 9
	return append(b, payload...)
}

func TestParsePacket(t *testing.T) {
	ports := []byte{0x30, 0x39, 0x01, 0xbb} // 12345, 443
	for _, c := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"UDP", ipv4(17, 0, ports...), "17 192.0.0.2:12345 8.8.8.8:443"},
		{"SCTP", ipv4(132, 0, ports...), "132 192.0.0.2:12345 8.8.8.8:443"},
		{"ICMP has no ports", ipv4(1, 0, 8, 0, 1, 2), "1 192.0.0.2:0 8.8.8.8:0"},
		{"first fragment", ipv4(17, 0x2000, ports...), "17 192.0.0.2:12345 8.8.8.8:443"},
		{"later fragment", ipv4(17, 0x2001, ports...), "17 192.0.0.2:0 8.8.8.8:0"},
		{"cut off in the ports", ipv4(17, 0, 1, 2, 3), "17 192.0.0.2:0 8.8.8.8:0"},
		{"with options", append(append([]byte{0x46}, ipv4(17, 0)[1:]...), append([]byte{1, 1, 1, 1}, ports...)...), "17 192.0.0.2:12345 8.8.8.8:443"},
		{"IPv6", ipv6(17, ports...), "17 [fd00::2]:12345 [2000::9]:443"},
		{"IPv6 with extension headers", ipv6(0, append([]byte{60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0}, ports...)...), "17 [fd00::2]:12345 [2000::9]:443"},
		{"IPv6 first fragment", ipv6(44, append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, ports...)...), "17 [fd00::2]:12345 [2000::9]:443"},
		{"IPv6 later fragment", ipv6(44, append([]byte{17, 0, 0, 8, 0, 0, 0, 1}, ports...)...), "17 [fd00::2]:0 [2000::9]:0"},
		{"IPv6 cut off in an extension header", ipv6(0, 17, 9, 0), "0 [fd00::2]:0 [2000::9]:0"},
		{"empty", nil, "empty packet"},
		{"cut off", ipv4(17, 0)[:19], "IPv4 header cut off"},
		{"IPv6 cut off", ipv6(17)[:39], "IPv6 header cut off"},
		{"header length too small", []byte{0x41, 19: 0}, "IPv4 header cut off"},
		{"another version", []byte{0x50}, "IP version 5"},
	} {
		p, err := ParsePacket(c.packet)
		got := fmt.Sprintf("%d %s %s", p.Protocol, p.Source, p.Destination)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// logged is an nflog message about a packet.
func logged(packet []byte) []byte {
	body := []byte{2, 0, 0, 7}
	attribute := func(kind uint16, value []byte) {
		body = binary.NativeEndian.AppendUint16(body, uint16(4+len(value)))
		body = binary.NativeEndian.AppendUint16(body, kind)
		body = append(body, value...)
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
	}
	attribute(1, []byte{8, 0, 3, 0})
	attribute(10, []byte{0})
	attribute(nflogAttributePayload, packet)
	return appendMessage(nil, unix.NFNL_SUBSYS_ULOG<<8, 0, 0, body)
}

func TestParsePacketLog(t *testing.T) {
	ports := []byte{0x30, 0x39, 0x01, 0xbb}
	done := appendMessage(nil, unix.NLMSG_DONE, 0, 0, []byte{0, 0, 0, 0})
	b := append(append(append(logged(ipv4(17, 0, ports...)), logged([]byte{0x99})...), logged(ipv6(58))...), done...)
	got, err := ParsePacketLog(b)
	want := []Packet{
		{17, netip.MustParseAddrPort("192.0.0.2:12345"), netip.MustParseAddrPort("8.8.8.8:443")},
		{58, netip.MustParseAddrPort("[fd00::2]:0"), netip.MustParseAddrPort("[2000::9]:0")},
	}
	same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
		t.Errorf("%v\n-want +got:\n%s", err, diff)
	}
	if _, err := ParsePacketLog(b[:30]); err == nil {
		t.Error("a datagram that is cut off was accepted")
	}
}

func FuzzParsePacket(f *testing.F) {
	f.Add(ipv4(17, 0, 1, 2, 3, 4))
	f.Add(ipv6(44, 17, 0, 0, 1, 0, 0, 0, 1))
	f.Add(ipv6(0, 60, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err == nil && (!p.Source.Addr().IsValid() || !p.Destination.Addr().IsValid()) {
			t.Errorf("%v has no addresses", p)
		}
	})
}

func FuzzParsePacketLog(f *testing.F) {
	f.Add(logged(ipv4(17, 0, 1, 2, 3, 4)))
	f.Add(append(logged(ipv6(17)), logged(nil)...))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParsePacketLog(b) })
}
