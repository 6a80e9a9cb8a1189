package config_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/file/filetest"
	"github.com/egret-mesh/egret/internal/xds"
)

// adsListener ends TLS with the certificate of a secret of the control plane.
func adsListener(t *testing.T, name string, port int, secret string) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":"0.0.0.0","portValue":%d}},
		"filterChains":[{"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}],
		"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":%q,"sdsConfig":{"ads":{}}}]}}}}]}`, name, port, secret))
}

func adsCluster(t *testing.T, name, secret string) *anypb.Any {
	return resourcetest.Cluster(t, fmt.Sprintf(`{"name":%q,"type":"STATIC","transportSocket":{"name":"tls","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"commonTlsContext":{"tlsCertificateSdsSecretConfigs":[{"name":%q,"sdsConfig":{"ads":{}}}]}}}}`, name, secret))
}

// pairs makes secrets with certificates of their own.
func pairs(t *testing.T, name string, n int) (out []*anypb.Any) {
	t.Helper()
	authority := filetest.NewAuthority(t)
	inline := func(path string) *corev3.DataSource {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}}
	}
	for range n {
		cert, key := authority.Issue(t, "x", time.Now().Add(time.Hour))
		a, err := anypb.New(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(cert), PrivateKey: inline(key)}}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// What names a secret of the control plane waits for it, and uses each new one from then on;
// a bad one is refused, and the last good one stays; so does one that is deleted.
func TestSecretsOfTheControlPlane(t *testing.T) {
	secrets := credentials.NewSecrets()
	h := harnessWith(t, config.StoreOptions{Secrets: secrets, KeepBodies: true})
	const web = "kubernetes://web"
	two := pairs(t, web, 2)
	h.good(xds.ClusterType, bodies("c", staticCluster(t, "c")))
	h.good(xds.ListenerType, bodies("l", adsListener(t, "l", 443, web)))
	if h.Current() != nil {
		t.Fatal("published without the secret")
	}
	if got := h.wants[xds.SecretType]; !slices.Equal(got, []string{web}) {
		t.Fatalf("subscribed to %q", got)
	}
	h.good(xds.SecretType, bodies(web, two[0]))
	if c := h.Current(); c == nil || c.Listener("l") == nil {
		t.Fatal("the secret has come, and the listener does not serve")
	}
	before := h.Current()
	first, err := secrets.Certificate(web)
	if err != nil {
		t.Fatal(err)
	}
	h.good(xds.SecretType, bodies(web, two[1]))
	second, err := secrets.Certificate(web)
	if err != nil || second == first {
		t.Fatalf("rotated: the same, %v", err)
	}
	if h.Current() != before {
		t.Error("a rotation made another configuration")
	}
	bad := &anypb.Any{TypeUrl: xds.SecretType, Value: []byte("\x0a\x10kubernetes://web")}
	if errs := h.apply(xds.SecretType, nil, bodies(web, bad)); errs[web] == nil || !strings.Contains(errs[web].Error(), "tls_certificate") {
		t.Errorf("a bad one: %v", errs)
	}
	h.apply(xds.SecretType, []string{web}, nil)
	if again, err := secrets.Certificate(web); err != nil || again != second {
		t.Errorf("after a bad one and a deletion: %v", err)
	}
	if h.Bodies(xds.SecretType) != nil && len(h.Bodies(xds.SecretType)) > 0 {
		t.Error("the store keeps the body of a secret")
	}
	h.good(xds.SecretType, bodies(web, two[1]))
	h.apply(xds.ListenerType, []string{"l"}, nil)
	if got := h.wants[xds.SecretType]; len(got) > 0 {
		t.Errorf("still subscribed to %q", got)
	}
	h.apply(xds.SecretType, []string{web}, nil)
	if _, err := secrets.Certificate(web); err == nil {
		t.Error("the key is kept after nobody needs it")
	}
}

// A secret that there is not is not waited for: what names it serves, and refuses.
func TestSecretThatThereIsNot(t *testing.T) {
	secrets := credentials.NewSecrets("default")
	secrets.Put(certificateSecret())
	h := harnessWith(t, config.StoreOptions{Secrets: secrets})
	h.good(xds.ClusterType, bodies("c", adsCluster(t, "c", "kubernetes://client"), "mesh", adsCluster(t, "mesh", "default")))
	h.good(xds.ListenerType, bodies("l", adsListener(t, "l", 443, "kubernetes://gone")))
	if got := h.wants[xds.SecretType]; !slices.Equal(got, []string{"kubernetes://client", "kubernetes://gone"}) {
		t.Errorf("subscribed to %q: the agent's own is not the control plane's", got)
	}
	h.Store.Apply(xds.Update{TypeURL: xds.SecretType, Absent: []string{"kubernetes://gone"}})
	if h.Current() != nil {
		t.Error("published without the client's certificate, which may come")
	}
	h.Store.Apply(xds.Update{TypeURL: xds.SecretType, Absent: []string{"kubernetes://client"}})
	if c := h.Current(); c == nil || c.Listener("l") == nil || c.Cluster("c") == nil {
		t.Fatalf("not published: %+v", c)
	}
	if _, err := secrets.Certificate("kubernetes://gone"); err == nil || !strings.Contains(err.Error(), "does not give it") {
		t.Errorf("why: %v", err)
	}
	h.good(xds.ClusterType, bodies("c", staticCluster(t, "c")))
	if got := h.wants[xds.SecretType]; !slices.Equal(got, []string{"kubernetes://gone"}) {
		t.Errorf("subscribed to %q", got)
	}
	h.good(xds.SecretType, bodies("kubernetes://gone", pairs(t, "kubernetes://gone", 1)[0]))
	if _, err := secrets.Certificate("kubernetes://gone"); err != nil {
		t.Errorf("it came later: %v", err)
	}
}
