package upstream

import (
	"net/netip"
	"testing"
)

func TestForbidden(t *testing.T) {
	more := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd99::/16")}
	tests := []struct {
		addr string
		want bool
	}{
		{"8.8.8.8", false},
		{"10.0.0.1", false},
		{"192.168.1.1", false},
		{"100.64.0.1", false},
		{"2001:4860:4860::8888", false},
		{"fd00::1", false},
		{"0.0.0.0", true},
		{"0.1.2.3", true},
		{"127.0.0.1", true},
		{"127.255.255.254", true},
		{"169.254.169.254", true},
		{"224.0.0.251", true},
		{"239.255.255.250", true},
		{"240.0.0.1", true},
		{"240.241.0.1", true},
		{"255.255.255.255", true},
		{"::", true},
		{"::1", true},
		{"fe80::1", true},
		{"fe80::1%eth0", true},
		{"febf::1", true},
		{"fec0::1", true},
		{"ff02::1", true},
		{"fd00:ec2::254", true},
		{"fd20:ce::254", true},
		{"10.9.8.7", true},
		{"fd99::1", true},
		{"::ffff:127.0.0.1", true},
		{"::ffff:169.254.169.254", true},
		{"::ffff:10.9.8.7", true},
		{"::ffff:8.8.8.8", false},
		{"::127.0.0.1", true},
		{"::ffff:0:127.0.0.1", true},
		{"64:ff9b::169.254.169.254", true},
		{"64:ff9b::10.9.8.7", true},
		{"64:ff9b::8.8.8.8", false},
		{"64:ff9b:1::127.0.0.1", true},
		{"64:ff9b:1:7f00:0:100::", true}, // 127.0.0.1 after a /48
		{"2002:7f00:1::1", true},
		{"2002:a9fe:a9fe::", true},
		{"2002:808:808::1", false},
		{"2001:0:808:808:0:0:8000:fffe", true}, // Teredo client 127.255.0.1
		{"2001:db8::5efe:7f00:1", true},        // ISATAP
		{"2001:db8::200:5efe:7f00:1", true},
		{"2001:db8::5efe:808:808", false},
	}
	for _, tt := range tests {
		if got := forbidden(netip.MustParseAddr(tt.addr), more); got != tt.want {
			t.Errorf("forbidden(%s) = %v, want %v", tt.addr, got, tt.want)
		}
	}
	if !forbidden(netip.Addr{}, nil) {
		t.Error("the zero address is not forbidden")
	}
}
