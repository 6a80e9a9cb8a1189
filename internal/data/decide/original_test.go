package decide

import (
	"net/netip"
	"testing"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestOriginal(t *testing.T) {
	at := netip.MustParseAddrPort("10.0.0.2:8443")
	for _, tc := range []struct {
		about, cluster, name string
		direct               bool
		discovery            resource.Discovery
		want                 string // name:port; "" none
	}{
		{"below the wildcard", "outbound|443||*.example.com", "A.example.com.", true, resource.DiscoveryOriginalDst, "a.example.com:443"},
		{"any name", "outbound|443||*", "a.test", true, resource.DiscoveryOriginalDst, "a.test:443"},
		{"the host itself", "outbound|80||example.com", "example.com", true, resource.DiscoveryOriginalDst, "example.com:80"},
		{"another name", "outbound|443||*.example.com", "evil.test", true, resource.DiscoveryOriginalDst, ""},
		{"not below", "outbound|443||*.example.com", "example.com", true, resource.DiscoveryOriginalDst, ""},
		{"only the suffix", "outbound|443||*.example.com", ".example.com", true, resource.DiscoveryOriginalDst, ""},
		{"an address", "outbound|443||*", "192.0.2.1", true, resource.DiscoveryOriginalDst, ""},
		{"no name", "outbound|443||*", "", true, resource.DiscoveryOriginalDst, ""},
		{"redirected", "outbound|443||*.example.com", "a.example.com", false, resource.DiscoveryOriginalDst, ""},
		{"another kind of cluster", "outbound|443||*.example.com", "a.example.com", true, resource.DiscoveryStatic, ""},
		{"not a service's cluster", "PassthroughCluster", "a.example.com", true, resource.DiscoveryOriginalDst, ""},
		{"no port", "outbound|x||*.example.com", "a.example.com", true, resource.DiscoveryOriginalDst, ""},
	} {
		cluster := &config.Cluster{Cluster: &resource.Cluster{Name: tc.cluster, Discovery: tc.discovery}}
		dst, name := Original(&Conn{Destination: at, Direct: tc.direct}, cluster, tc.name)
		got := ""
		if name != "" {
			got = name + ":" + netip.AddrPortFrom(dst.Addr(), dst.Port()).String()[len("10.0.0.2:"):]
		} else if dst != at {
			t.Errorf("%s: the destination became %s", tc.about, dst)
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.about, got, tc.want)
		}
	}
}

// An address that stands for a name leads to the name, whatever the client calls.
func TestOriginalOfReservedAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"240.240.0.1": "a.example", "240.241.9.9": "a.example", "240.0.0.1": "a.example", "::ffff:240.240.0.1": "a.example",
		"239.0.0.1": "", "10.0.0.1": "", "f0f0::1": "",
	} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), 443)
		dst, name := Original(&Conn{Destination: at, Binding: Binding{Name: "a.example"}}, nil, "b.example")
		if dst != at || name != want {
			t.Errorf("%s: got %s %q, want %q", addr, dst, name, want)
		}
	}
}
