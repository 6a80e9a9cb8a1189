package admin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/anyjson"
	"github.com/egret-mesh/egret/internal/data/admin"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/instance"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// operated is the admin interface of a proxy that takes its configuration from the test.
type operated struct {
	*admin.Admin
	t     testing.TB
	store *config.Store
	level slog.LevelVar
}

func operate(t testing.TB, metadata map[string]string) *operated {
	t.Helper()
	nowhere, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	node := &corev3.Node{Id: "sidecar~10.0.0.1~web.shop~shop.svc.cluster.local", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
	for k, v := range metadata {
		node.Metadata.Fields[k] = structpb.NewStringValue(v)
	}
	p, err := instance.New(instance.Options{ControlPlanes: []grpc.ClientConnInterface{nowhere}, Node: node, KeepBodies: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := nowhere.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &operated{t: t, store: p.Store()}
	o.Admin, err = admin.New(admin.Options{
		Proxy: p, Bootstrap: &bootstrapv3.Bootstrap{Node: node}, Version: "1", Log: slog.New(slog.DiscardHandler), Level: &o.level,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *operated) apply(typeURL string, resources ...*anypb.Any) map[string]error {
	o.t.Helper()
	u := xds.Update{TypeURL: typeURL}
	for _, body := range resources {
		u.Changed = append(u.Changed, xds.Resource{Name: resourceName(o.t, body), Version: "v1", Body: body})
	}
	return o.store.Apply(u)
}

func resourceName(t testing.TB, a *anypb.Any) string {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	f := m.ProtoReflect().Descriptor().Fields()
	for _, name := range []string{"name", "cluster_name"} {
		for i := range f.Len() {
			if string(f.Get(i).Name()) == name {
				return m.ProtoReflect().Get(f.Get(i)).String()
			}
		}
	}
	return ""
}

func (o *operated) get(path string) string { return o.do("GET", path) }

func (o *operated) do(method, path string) string {
	o.t.Helper()
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Body.String()
}

// section reads one message of a dump.
func (o *operated) section(dump string, to proto.Message) {
	o.t.Helper()
	all := &adminv3.ConfigDump{}
	if err := anyjson.Unmarshal([]byte(dump), all); err != nil {
		o.t.Fatalf("%v in\n%s", err, dump)
	}
	for _, one := range all.GetConfigs() {
		if one.MessageIs(to) {
			if err := one.UnmarshalTo(to); err != nil {
				o.t.Fatal(err)
			}
			return
		}
	}
	o.t.Fatalf("no %T in\n%s", to, dump)
}

// What a stock istiod sends is told as it came, also with types that Egret has not.
func TestDumpOfIstio(t *testing.T) {
	rec := resourcetest.Reference(t, "registry_only", "sidecar")
	o := operate(t, nil)
	for typeURL, list := range map[string][]*anypb.Any{
		xds.ClusterType: rec.Clusters, xds.ListenerType: rec.Listeners, xds.RouteType: rec.Routes, xds.EndpointType: rec.Endpoints,
	} {
		if errs := o.apply(typeURL, list...); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	dump := o.get("/config_dump?include_eds")
	listeners, routes, clusters := &adminv3.ListenersConfigDump{}, &adminv3.RoutesConfigDump{}, &adminv3.ClustersConfigDump{}
	o.section(dump, listeners)
	o.section(dump, routes)
	o.section(dump, clusters)
	if len(listeners.GetDynamicListeners()) != len(rec.Listeners) || len(routes.GetDynamicRouteConfigs()) != len(rec.Routes) ||
		len(clusters.GetDynamicActiveClusters()) != len(rec.Clusters) {
		t.Errorf("%d listeners, %d routes, %d clusters", len(listeners.GetDynamicListeners()), len(routes.GetDynamicRouteConfigs()), len(clusters.GetDynamicActiveClusters()))
	}
	for _, want := range rec.Routes { // they have nothing that Egret does not know
		found := false
		m := unpack(t, want)
		for _, have := range routes.GetDynamicRouteConfigs() {
			found = found || proto.Equal(m, unpack(t, have.GetRouteConfig()))
		}
		if !found {
			t.Errorf("not in the dump: %v", m)
		}
	}
	if !strings.Contains(dump, "envoy.tcp.metadataexchange.config.MetadataExchange") {
		t.Error("a type that is not known was lost")
	}
	if !json.Valid([]byte(dump)) {
		t.Error("not JSON")
	}
}

func unpack(t *testing.T, a *anypb.Any) proto.Message {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"api.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// tlsListener ends TLS with certificates by their data sources.
func tlsListener(t *testing.T, cert, key string) *anypb.Any {
	return resourcetest.Listener(t, fmt.Sprintf(`{"name":"tls","address":{"socketAddress":{"address":"127.0.0.1","portValue":8443}},
		"filterChains":[{"transportSocket":{"name":"envoy.transport_sockets.tls","typedConfig":{
			"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
			"commonTlsContext":{"tlsCertificates":[{"certificateChain":%s,"privateKey":%s}]}}},
		"filters":[{"name":"envoy.filters.network.tcp_proxy","typedConfig":{
			"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}]}]}`, cert, key))
}

func quoted(t *testing.T, field, value string) string {
	t.Helper()
	b, err := json.Marshal(map[string]string{field: value})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeysAreNotShown(t *testing.T) {
	cert, key := keyPair(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, text := range map[string]string{certFile: cert, keyFile: key} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range map[string]*anypb.Any{
		"inline": tlsListener(t, quoted(t, "inlineString", cert), quoted(t, "inlineString", key)),
		"files":  tlsListener(t, quoted(t, "filename", certFile), quoted(t, "filename", keyFile)),
	} {
		t.Run(name, func(t *testing.T) {
			o := operate(t, nil)
			o.apply(xds.ClusterType, resourcetest.Cluster(t, `{"name":"c","type":"STATIC"}`))
			if errs := o.apply(xds.ListenerType, l); len(errs) > 0 {
				t.Fatal(errs)
			}
			dump := o.get("/config_dump")
			block, _ := pem.Decode([]byte(key))
			for _, secret := range []string{key, "PRIVATE KEY", base64.StdEncoding.EncodeToString(block.Bytes)[:40], base64.StdEncoding.EncodeToString([]byte(key))[:40]} {
				if strings.Contains(dump, secret) {
					t.Errorf("%q is in\n%s", secret, dump)
				}
			}
			if !strings.Contains(dump, "[redacted]") {
				t.Errorf("nothing is redacted in\n%s", dump)
			}
			certs := &adminv3.Certificates{}
			if err := anyjson.Unmarshal([]byte(o.get("/certs")), certs); err != nil {
				t.Fatal(err)
			}
			if len(certs.GetCertificates()) != 1 || certs.GetCertificates()[0].GetCertChain()[0].GetSerialNumber() != "abc" ||
				certs.GetCertificates()[0].GetCertChain()[0].GetSubjectAltNames()[0].GetDns() != "api.example.com" {
				t.Errorf("certificates: %v", certs)
			}
			secrets := &adminv3.SecretsConfigDump{}
			o.section(dump, secrets)
			if name == "files" && (len(secrets.GetDynamicActiveSecrets()) != 1 || secrets.GetDynamicActiveSecrets()[0].GetName() != "file-cert:"+certFile+"~"+keyFile) {
				t.Errorf("secrets: %v", secrets)
			}
		})
	}
}

// What is refused is told with the words of the NACK; the last good version stays.
func TestRefusalsAreTold(t *testing.T) {
	o := operate(t, nil)
	o.apply(xds.ClusterType, resourcetest.Cluster(t, `{"name":"c","type":"STATIC"}`))
	o.apply(xds.ListenerType)
	if errs := o.apply(xds.ClusterType, resourcetest.Cluster(t, `{"name":"c","type":"STATIC","connectTimeout":"-3s"}`)); errs["c"] == nil {
		t.Fatal("not refused")
	}
	clusters := &adminv3.ClustersConfigDump{}
	o.section(o.get("/config_dump"), clusters)
	c := clusters.GetDynamicActiveClusters()[0]
	if c.GetCluster() == nil || !strings.Contains(c.GetErrorState().GetDetails(), "connect_timeout") || c.GetClientStatus() != adminv3.ClientResourceStatus_NACKED {
		t.Errorf("%v", c)
	}
	o.apply(xds.ClusterType, resourcetest.Cluster(t, `{"name":"c","type":"STATIC","connectTimeout":"3s"}`))
	o.section(o.get("/config_dump"), clusters)
	if c := clusters.GetDynamicActiveClusters()[0]; c.GetErrorState() != nil {
		t.Errorf("still refused: %v", c)
	}
}

// Parts that were asked for by name are in the resource that they belong to, as in Envoy.
func TestPartsOnDemand(t *testing.T) {
	o := operate(t, map[string]string{xds.OnDemandMetadata: "true"})
	o.store.Attach(nobody{})
	o.apply(xds.ListenerType, resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"127.0.0.1","portValue":80}},
		"filterChains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"statPrefix":"x","rds":{"routeConfigName":"80","configSource":{"ads":{}}},
		"httpFilters":[{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`))
	if errs := o.apply(xds.RouteType, resourcetest.Route(t, `{"name":"80","vhds":{"configSource":{"ads":{}}}}`)); len(errs) > 0 {
		t.Fatal(errs)
	}
	o.store.Look(config.Need{Kind: config.NeedVirtualHost, Of: "80", Name: "a.com"})
	vh := resourcetest.VirtualHost(t, `{"name":"a","domains":["a.com"],"routes":[{"match":{"prefix":"/"},"directResponse":{"status":200}}]}`)
	if errs := o.store.Apply(xds.Update{TypeURL: xds.VirtualHostType, Changed: []xds.Resource{{Name: "80/a.com", Version: "1", Body: vh}}}); len(errs) > 0 {
		t.Fatal(errs)
	}
	routes, rc := &adminv3.RoutesConfigDump{}, &routev3.RouteConfiguration{}
	o.section(o.get("/config_dump"), routes)
	if err := routes.GetDynamicRouteConfigs()[0].GetRouteConfig().UnmarshalTo(rc); err != nil || len(rc.GetVirtualHosts()) != 1 || rc.GetVirtualHosts()[0].GetName() != "a" {
		t.Errorf("%v %v", rc, err)
	}
}

// nobody is a control plane that is not there.
type nobody struct{}

func (nobody) Subscribe(string, []string)     {}
func (nobody) Ask(string, []string, []string) {}

// A listener that waits for its routes is warming.
func TestWarming(t *testing.T) {
	o := operate(t, nil)
	rec := resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"127.0.0.1","portValue":80}},
		"filterChains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"statPrefix":"x","rds":{"routeConfigName":"80","configSource":{"ads":{}}},
		"httpFilters":[{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`)
	if errs := o.apply(xds.ListenerType, rec); len(errs) > 0 {
		t.Fatal(errs)
	}
	warming := func() bool {
		dump, l := &adminv3.ListenersConfigDump{}, &listenerv3.Listener{}
		o.section(o.get("/config_dump"), dump)
		one := dump.GetDynamicListeners()[0]
		state := one.GetActiveState()
		if one.GetWarmingState() != nil {
			state = one.GetWarmingState()
		}
		if err := state.GetListener().UnmarshalTo(l); err != nil {
			t.Fatal(err)
		}
		return one.GetActiveState() == nil
	}
	if !warming() {
		t.Error("active without its routes")
	}
	o.apply(xds.RouteType, resourcetest.Route(t, `{"name":"80"}`))
	if warming() {
		t.Error("still warming")
	}
}

func TestLogging(t *testing.T) {
	o := operate(t, nil)
	for _, c := range []struct {
		query, answer string
		level         slog.Level
	}{
		{"", "egret: info", slog.LevelInfo},
		{"?level=debug", "egret: debug", slog.LevelDebug},
		{"?egret=warning", "egret: warning", slog.LevelWarn},
		{"?paths=egret:error", "egret: error", slog.LevelError},
		{"?level=nosuch", "unknown logger level", slog.LevelError},
		{"?nosuch=info", "unknown logger name", slog.LevelError},
		{"?level=&paths=egret:info", "egret: info", slog.LevelInfo},
	} {
		if got := o.do("POST", "/logging"+c.query); !strings.Contains(got, c.answer) || o.level.Level() != c.level {
			t.Errorf("%s: level %v, answer %s", c.query, o.level.Level(), got)
		}
	}
}

// FuzzQuery: whatever is asked, the answer is an error's text or JSON.
func FuzzQuery(f *testing.F) {
	f.Add("dynamic_active_clusters", "cluster.name", "c")
	f.Add("", "bootstrap.node.metadata,static_clusters", "(")
	f.Add("bootstrap", "....", "(a*)*b")
	o := operate(f, nil)
	o.apply(xds.ClusterType, resourcetest.Cluster(f, `{"name":"c","type":"STATIC","loadAssignment":{"clusterName":"c"}}`))
	o.apply(xds.ListenerType)
	f.Fuzz(func(t *testing.T, resource, mask, pattern string) {
		q := url.Values{"resource": {resource}, "mask": {mask}, "name_regex": {pattern}, "filter": {pattern}, "include_eds": {""}}
		for _, path := range []string{"/config_dump?", "/clusters?format=json&", "/stats?format=json&"} {
			w := httptest.NewRecorder()
			o.ServeHTTP(w, httptest.NewRequest("GET", path+q.Encode(), nil))
			if w.Code == 200 && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("not JSON: %s", w.Body)
			}
		}
	})
}
