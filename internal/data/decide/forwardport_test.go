package decide

import (
	"testing"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestForwardPort(t *testing.T) {
	dynamic := &config.Cluster{Cluster: &resource.Cluster{Discovery: resource.DiscoveryDynamicForward}}
	secure := &config.Cluster{Cluster: &resource.Cluster{Discovery: resource.DiscoveryDynamicForward, TLS: &resource.UpstreamTLS{}}}
	static := &config.Cluster{Cluster: &resource.Cluster{}}
	for _, tt := range []struct {
		cluster *config.Cluster
		port    string
		want    uint16
	}{
		{dynamic, "", 80}, {secure, "", 443}, {dynamic, "8080", 8080}, {dynamic, "65536", 0}, {dynamic, "x", 0}, {static, "80", 0}, {nil, "80", 0},
	} {
		if got := ForwardPort(tt.cluster, tt.port); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.port, got, tt.want)
		}
	}
}
