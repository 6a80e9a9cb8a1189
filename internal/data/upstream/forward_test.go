package upstream

import (
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestDynamicForwardProxy(t *testing.T) {
	z := &zone{ttl: time.Hour}
	z.set("a.example", "192.0.2.1")
	z.set("evil.example", "169.254.169.254")
	z.set("localhost", "127.0.0.1")
	m := manager(t, Options{Resolver: z})
	c := cluster("dynamic", resource.DiscoveryDynamicForward)
	c.LB = resource.LBClusterProvided
	for _, tt := range []struct {
		authority string
		port      uint16
		want      string
		reason    reason.Reason
		flag      string
	}{
		{"a.example", 8080, "192.0.2.1:8080", "", ""},
		{"A.Example.", 443, "192.0.2.1:443", "", ""},
		{"192.0.2.7", 80, "192.0.2.7:80", "", ""},
		{"[2001:db8::7]", 80, "[2001:db8::7]:80", "", ""},
		{"nx.example", 80, "", reason.DNSFailed, "DF"},
		{"not a name", 80, "", reason.DNSFailed, "DF"},
		{"evil.example", 80, "", reason.AddressForbidden, "UH"},
		{"localhost", 80, "", reason.AddressForbidden, "UH"},
		{"127.0.0.1", 80, "", reason.AddressForbidden, "UH"},
		{"[::1]", 80, "", reason.AddressForbidden, "UH"},
		{"[::ffff:169.254.169.254]", 80, "", reason.AddressForbidden, "UH"},
		{"a.example", 0, "", reason.NoHealthyUpstream, "UH"},
		{"", 80, "", reason.NoHealthyUpstream, "UH"},
	} {
		h, err := m.Pick(t.Context(), c, &Target{Authority: tt.authority, ForwardPort: tt.port}, nil)
		switch {
		case err != nil && (err.Reason != tt.reason || err.Flag != tt.flag):
			t.Errorf("%s: %v (%s, %s)", tt.authority, err, err.Reason, err.Flag)
		case err == nil && h.String() != tt.want:
			t.Errorf("%s: %s, want %q", tt.authority, h, tt.want)
		}
	}
	if _, err := m.Pick(t.Context(), c, nil, nil); err == nil {
		t.Error("a host for nothing")
	}
	if n := len(m.all()[0].hosts); n != 4 {
		t.Errorf("%d hosts are kept", n)
	}
}
