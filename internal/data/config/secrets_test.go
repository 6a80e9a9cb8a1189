package config_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

const agentSDS = `"sdsConfig":{"apiConfigSource":{"apiType":"GRPC","grpcServices":[{"envoyGrpc":{"clusterName":"sds-grpc"}}]}}`

// meshCluster connects with the secret of a name.
func meshCluster(t *testing.T, name, secret string) *anypb.Any {
	return resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"STATIC","transportSocket":{"name":"tls","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":%q,%s}]}}}}`, name, secret, agentSDS))
}

func meshListener(t *testing.T, name string, port int) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":"0.0.0.0","portValue":%d}},
		"filterChains":[{"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}],
		"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":"default",%s}],"validationContextSdsSecretConfig":{"name":"ROOTCA",%s}}}}}]}`, name, port, agentSDS, agentSDS))
}

func certificateSecret() credentials.Secret {
	return credentials.Secret{Name: "default", Certificate: &tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}}}
}

// As in Envoy, nothing is served before the secrets are there that are on their way.
func TestFirstConfigWaitsForSecrets(t *testing.T) {
	secrets := credentials.NewSecrets("default", "ROOTCA")
	h := harnessWith(t, config.StoreOptions{Secrets: secrets})
	h.good(xds.ClusterType, bodies("c", meshCluster(t, "c", "default"), "plain", staticCluster(t, "plain")))
	h.good(xds.ListenerType, bodies("l", meshListener(t, "l", 80)))
	if h.Current() != nil {
		t.Fatal("published without secrets")
	}
	secrets.Put(certificateSecret())
	h.SecretsChanged()
	if h.Current() != nil {
		t.Fatal("published without the listener's authorities")
	}
	secrets.Put(credentials.Secret{Name: "ROOTCA", Roots: x509.NewCertPool()})
	h.SecretsChanged()
	if c := h.Current(); c == nil || c.Cluster("c") == nil || c.Cluster("plain") == nil || c.Listener("l") == nil {
		t.Errorf("with all secrets: %+v", c)
	}
	for field := range h.Skipped() {
		if strings.Contains(field, "sds_config") {
			t.Errorf("%s is told as left out", field)
		}
	}
}

func TestClusterWarmsUntilItsSecretComes(t *testing.T) {
	secrets := credentials.NewSecrets("default", "ROOTCA")
	h := harnessWith(t, config.StoreOptions{Secrets: secrets})
	h.good(xds.ClusterType, bodies("plain", staticCluster(t, "plain")))
	h.good(xds.ListenerType, nil)
	h.good(xds.ClusterType, bodies("c", meshCluster(t, "c", "default"), "other", meshCluster(t, "other", "nobody has it")))
	if h.Current().Cluster("c") != nil {
		t.Error("the cluster is there before its secret")
	}
	if h.Current().Cluster("other") == nil {
		t.Error("a secret that nobody expects was waited for")
	}
	h.apply(xds.ClusterType, []string{"c"}, nil)
	secrets.Put(certificateSecret())
	h.SecretsChanged()
	if h.Current().Cluster("c") != nil {
		t.Error("a removed cluster came back with its secret")
	}
	h.good(xds.ClusterType, bodies("c", meshCluster(t, "c", "default")))
	if h.Current().Cluster("c") == nil {
		t.Error("the cluster did not come")
	}
}
