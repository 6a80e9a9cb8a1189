package egretproxy

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// captureOf reads a command line as the command does.
func captureOf(t *testing.T, environ []string, args ...string) (string, error) {
	t.Helper()
	var c captureFlags
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	c.register(f, func(name string) string {
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	})
	if err := f.Parse(args); err != nil {
		return "", err
	}
	if err := checkCapture(f, environ); err != nil {
		return "", err
	}
	p, err := c.pod(strings.NewReader("nameserver 10.96.0.10\nsearch default.svc.cluster.local\n"))
	return p.String(), err
}

// What Istio's injection gives to its init container.
var istioInit = []string{"-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020", "--log_output_level=default:info"}

func TestCaptureAsInjected(t *testing.T) {
	got, err := captureOf(t, nil, istioInit...)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"meta l4proto tcp redirect to :15001", "meta l4proto tcp redirect to :15006", "meta skuid 1337 return", "meta skgid 1337 return",
		"tcp dport 15090 return", "tcp dport 15021 return", "tcp dport 15020 return", `oifname "lo" ip saddr 127.0.0.6 return`,
	} {
		if !strings.Contains(got, "\t\t"+line+"\n") {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.Contains(got, "53") {
		t.Errorf("DNS is captured without being asked for:\n%s", got)
	}
}

func TestCapture(t *testing.T) {
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		want    string // a line of the rules, or what the error says
		fails   bool
	}{
		{"ranges", nil, []string{"-i", "10.0.0.0/8,fd00::/8"}, "ip6 daddr fd00::/8 meta l4proto tcp redirect to :15001", false},
		{"not these ranges", nil, []string{"-i", "*", "-x", "10.1.0.0/16"}, "ip daddr 10.1.0.0/16 return", false},
		{"not this port", nil, []string{"-i", "*", "-o", "3306"}, "tcp dport 3306 return", false},
		{"this port in any case", nil, []string{"-q", "443"}, "tcp dport 443 redirect to :15001", false},
		{"these ports of the pod", nil, []string{"-b", "80, 8080"}, "tcp dport 8080 redirect to :15006", false},
		{"interfaces", nil, []string{"-c", "net1", "-k", "vm0"}, `iifname "vm0" return`, false},
		{"another user", nil, []string{"-u", "1234"}, "meta skgid 1234 return", false},
		{"another group", nil, []string{"-g", "4321"}, "meta skgid 4321 return", false},
		{"DNS to the pod's servers", nil, []string{"--redirect-dns"}, "udp dport 53 ip daddr 10.96.0.10 redirect to :15053", false},
		{"DNS by the proxy's metadata", []string{"ISTIO_META_DNS_CAPTURE=true"}, nil, "udp dport 53 ip daddr 10.96.0.10 redirect to :15053", false},
		{"all DNS", nil, []string{"--redirect-dns", "--capture-all-dns"}, "udp dport 53 redirect to :15053", false},
		{"what belongs to no connection", []string{"INVALID_DROP=true"}, nil, "ct state invalid drop", false},
		{"all groups", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=*"}, nil, "meta skgid 1337 return", false},
		{"false is not asked for", nil, []string{"--cni-mode=false", "--restore-format"}, "meta skuid 1337 return", false},

		{"an unknown flag", nil, []string{"--no-such"}, "--no-such", true},
		{"TPROXY", nil, []string{"-m", "TPROXY"}, `"TPROXY" is not done here`, true},
		{"CNI", nil, []string{"--run-validation"}, "--run-validation: there is no CNI plugin", true},
		{"another namespace", nil, []string{"--network-namespace=/proc/1/ns/net"}, "--network-namespace", true},
		{"some groups", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=app"}, nil, "ISTIO_OUTBOUND_OWNER_GROUPS", true},
		{"no port", nil, []string{"-d", "15020,x"}, `--istio-local-exclude-ports: "x" is no port`, true},
		{"port 0", nil, []string{"-p", "0"}, `--envoy-port: "0" is no port`, true},
		{"no range", nil, []string{"-x", "10.0.0.1"}, "--istio-service-exclude-cidr", true},
		{"all but all", nil, []string{"-x", "*"}, "--istio-service-exclude-cidr", true},
		{"no user", nil, []string{"-u", "root"}, `--proxy-uid: "root"`, true},
		{"no interface", nil, []string{"-c", "a-very-long-name-of-an-interface"}, "--istio-exclude-interfaces", true},
	} {
		got, err := captureOf(t, c.environ, c.args...)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil && !strings.Contains(err.Error(), c.want) || err == nil && !strings.Contains(got, "\t\t"+c.want+"\n") {
			t.Errorf("%s: no %q in: %v\n%s", c.name, c.want, err, got)
		}
	}
}

// Whatever the arguments are, rules are made whole or not at all: the proxy's own
// connections pass, what leaves is captured where all is asked for, and text of the
// arguments is nowhere but in its place.
func FuzzCapture(f *testing.F) {
	for _, args := range [][]string{
		istioInit,
		{"-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16", "-q", "443", "-o", "3306", "-b", "80, 8080"},
		{"-u", "1337,0", "-g", "4321", "-c", "net1", "-k", "vm0", "--redirect-dns", "--capture-all-dns"},
		{"--redirect-dns", "--drop-invalid=true", "--dual-stack", "-m", "REDIRECT", "-p", "15002"},
		{"--cni-mode=false", "-i", "*", "-x", "::/0", "-d", ""},
	} {
		f.Add(strings.Join(args, "\x00"), "nameserver 1.2.3.4\nnameserver fe80::1%eth0")
	}
	f.Fuzz(func(t *testing.T, args, resolv string) {
		var c captureFlags
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.SetOutput(io.Discard)
		c.register(flags, func(string) string { return "" })
		if flags.Parse(strings.Split(args, "\x00")) != nil || checkCapture(flags, nil) != nil {
			return
		}
		p, err := c.pod(strings.NewReader(resolv))
		if err != nil {
			return
		}
		rules := p.String()
		if !strings.HasPrefix(rules, "table inet istio {\n") || !strings.HasSuffix(rules, "\n}\n") || strings.Count(rules, "{") != strings.Count(rules, "}") {
			t.Errorf("%q makes\n%s", args, rules)
		}
		has := func(line string) {
			if !strings.Contains(rules, "\t\t"+line+"\n") {
				t.Errorf("%q makes no %q:\n%s", args, line, rules)
			}
		}
		for _, uid := range p.UIDs {
			has(fmt.Sprintf("meta skuid %d return", uid))
		}
		if p.AllOutbound {
			has(fmt.Sprintf("meta l4proto tcp redirect to :%d", p.OutboundPort))
		}
		for line := range strings.Lines(rules) {
			if strings.ContainsFunc(strings.TrimSuffix(strings.TrimLeft(line, "\t"), "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q makes the line %q", args, line)
			}
		}
	})
}
