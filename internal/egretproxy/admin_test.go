package egretproxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/runtest"
)

// operator is the admin interface of a gateway at work.
type operator struct {
	t   *testing.T
	url string
}

func startOperated(t *testing.T) *operator {
	t.Helper()
	gateway, admin := runtest.FreeAddress(t), runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", website(t, "origin"), gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	startProxy(t, writeBootstrap(t, gatewayNode, admin, nil, p.xds))
	runtest.Eventually(t, "the gateway answers", func() bool {
		return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com"
	})
	return &operator{t: t, url: "http://" + admin.String()}
}

func (o *operator) do(method, path string) (status int, body string) {
	o.t.Helper()
	r, err := http.NewRequest(method, o.url+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
	a, err := client.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// read reads an answer strictly: every field and every type must be Envoy's.
func (o *operator) read(path string, to proto.Message) {
	o.t.Helper()
	status, body := o.do("GET", path)
	if status != http.StatusOK {
		o.t.Fatalf("%s: %d %s", path, status, body)
	}
	if err := protojson.Unmarshal([]byte(body), to); err != nil {
		o.t.Fatalf("%s: %v in\n%s", path, err, body)
	}
}

// sections reads /config_dump into the messages of its sections, of which each must be there.
func (o *operator) sections(query string, to ...proto.Message) {
	o.t.Helper()
	dump := &adminv3.ConfigDump{}
	o.read("/config_dump"+query, dump)
	for _, want := range to {
		found := false
		for _, have := range dump.GetConfigs() {
			if have.MessageIs(want) {
				found = true
				if err := have.UnmarshalTo(want); err != nil {
					o.t.Fatal(err)
				}
			}
		}
		if !found {
			o.t.Fatalf("no %s in /config_dump%s", want.ProtoReflect().Descriptor().FullName(), query)
		}
	}
}

func TestConfigDump(t *testing.T) {
	o := startOperated(t)
	bootstrap, listeners, clusters := &adminv3.BootstrapConfigDump{}, &adminv3.ListenersConfigDump{}, &adminv3.ClustersConfigDump{}
	routes, endpoints, secrets := &adminv3.RoutesConfigDump{}, &adminv3.EndpointsConfigDump{}, &adminv3.SecretsConfigDump{}
	o.sections("?include_eds", bootstrap, listeners, clusters, routes, endpoints, secrets)

	if id := bootstrap.GetBootstrap().GetNode().GetId(); !strings.HasPrefix(id, "router~127.0.0.1~istio-egressgateway") {
		t.Errorf("bootstrap of %q", id)
	}
	if n := len(clusters.GetStaticClusters()); n != 1 {
		t.Errorf("%d static clusters, want the control plane's", n)
	}
	l, rc, c, e := &listenerv3.Listener{}, &routev3.RouteConfiguration{}, &clusterv3.Cluster{}, &endpointv3.ClusterLoadAssignment{}
	if len(listeners.GetDynamicListeners()) != 1 || len(routes.GetDynamicRouteConfigs()) != 1 {
		t.Fatalf("listeners %v\nroutes %v", listeners, routes)
	}
	state := listeners.GetDynamicListeners()[0].GetActiveState()
	if err := state.GetListener().UnmarshalTo(l); err != nil || len(l.GetFilterChains()) == 0 || state.GetVersionInfo() == "" || state.GetLastUpdated() == nil {
		t.Errorf("listener: %v %v", state, err)
	}
	if err := routes.GetDynamicRouteConfigs()[0].GetRouteConfig().UnmarshalTo(rc); err != nil || !strings.Contains(rc.String(), "api.example.com") {
		t.Errorf("route: %v %v", rc, err)
	}
	for _, one := range clusters.GetDynamicActiveClusters() {
		if err := one.GetCluster().UnmarshalTo(c); err != nil {
			t.Fatal(err)
		}
		if c.GetName() == "outbound|80||api.example.com" {
			break
		}
	}
	if c.GetName() != "outbound|80||api.example.com" {
		t.Errorf("no such cluster: %v", clusters)
	}
	healthy := false
	for _, one := range endpoints.GetDynamicEndpointConfigs() {
		if err := one.GetEndpointConfig().UnmarshalTo(e); err != nil {
			t.Fatal(err)
		}
		healthy = healthy || e.GetClusterName() == c.GetName() && e.GetEndpoints()[0].GetLbEndpoints()[0].GetHealthStatus().String() == "HEALTHY"
	}
	if !healthy {
		t.Errorf("no healthy endpoint: %v", endpoints)
	}
}

func TestConfigDumpSelects(t *testing.T) {
	o := startOperated(t)
	dump := &adminv3.ConfigDump{}
	o.read("/config_dump?resource=dynamic_active_clusters&mask=cluster.name&name_regex=api", dump)
	if len(dump.GetConfigs()) != 1 {
		t.Fatalf("%v", dump)
	}
	one, c := &adminv3.ClustersConfigDump_DynamicCluster{}, &clusterv3.Cluster{}
	if err := dump.GetConfigs()[0].UnmarshalTo(one); err != nil {
		t.Fatal(err)
	}
	if err := one.GetCluster().UnmarshalTo(c); err != nil || !proto.Equal(c, &clusterv3.Cluster{Name: "outbound|80||api.example.com"}) || one.GetVersionInfo() != "" {
		t.Errorf("the mask left %v %v", one, err)
	}
	o.read("/config_dump?mask=bootstrap.node.id", dump)
	b := &adminv3.BootstrapConfigDump{}
	if err := dump.GetConfigs()[0].UnmarshalTo(b); err != nil || len(dump.GetConfigs()) != 1 || b.GetBootstrap().GetNode().GetId() == "" ||
		b.GetBootstrap().GetNode().GetMetadata() != nil || b.GetBootstrap().GetAdmin() != nil {
		t.Errorf("%v %v", dump, err)
	}
	for query, want := range map[string]int{
		"?resource=nosuch":    http.StatusNotFound,
		"?resource=bootstrap": http.StatusBadRequest,
		"?mask=nosuch":        http.StatusBadRequest,
		"?name_regex=(":       http.StatusBadRequest,
		"?name_regex=" + strings.Repeat("a", 2000):            http.StatusBadRequest,
		"?name_regex=((((a{1000}){1000}){1000}){1000}){1000}": http.StatusBadRequest,
		"?mask=" + strings.Repeat("a,", 1000):                 http.StatusBadRequest,
		"?mask=" + strings.Repeat("a.", 1000) + "a":           http.StatusBadRequest,
		"?mask=" + strings.Repeat("a", 10000):                 http.StatusBadRequest,
	} {
		if got, body := o.do("GET", "/config_dump"+query); got != want {
			t.Errorf("%.60s: %d %.200s, want %d", query, got, body, want)
		}
	}
}

func TestClustersAndListeners(t *testing.T) {
	o := startOperated(t)
	clusters, listeners, info := &adminv3.Clusters{}, &adminv3.Listeners{}, &adminv3.ServerInfo{}
	o.read("/clusters?format=json&filter=api", clusters)
	if len(clusters.GetClusterStatuses()) != 1 || clusters.GetClusterStatuses()[0].GetHostStatuses()[0].GetAddress().GetSocketAddress().GetAddress() != "127.0.0.1" {
		t.Errorf("clusters: %v", clusters)
	}
	o.read("/listeners?format=json", listeners)
	if len(listeners.GetListenerStatuses()) != 1 || listeners.GetListenerStatuses()[0].GetLocalAddress().GetSocketAddress().GetPortValue() == 0 {
		t.Errorf("listeners: %v", listeners)
	}
	o.read("/server_info", info)
	if info.GetState() != adminv3.ServerInfo_LIVE || info.GetNode().GetUserAgentName() != "egret" {
		t.Errorf("server info: %v", info)
	}
	o.read("/certs", &adminv3.Certificates{})
	for path, want := range map[string]string{
		"/clusters":  "outbound|80||api.example.com::default_priority::max_connections::",
		"/listeners": "0.0.0.0_",
		"/help":      "/config_dump: ",
		"/stats":     "cluster.outbound|80||api.example.com.upstream_cx_total: 1\n",
		"/stats?usedonly&format=json&filter=upstream_cx_total": `{"name":"cluster.outbound|80||api.example.com.upstream_cx_total","value":1}`,
		"/stats/prometheus": "istio_requests_total{",
	} {
		if status, body := o.do("GET", path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q:\n%.2000s", path, status, want, body)
		}
	}
}

func TestCommandsNeedPOST(t *testing.T) {
	o := startOperated(t)
	for _, path := range []string{"/logging?level=off", "/drain_listeners", "/quitquitquit"} {
		if status, body := o.do("GET", path); status != http.StatusMethodNotAllowed || !strings.Contains(body, "POST required") {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	if status, body := o.do("GET", "/nosuch"); status != http.StatusNotFound || !strings.Contains(body, "admin commands are:") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := o.do("POST", "/drain_listeners"); status != http.StatusOK || body != "OK\n" {
		t.Errorf("%d %s", status, body)
	}
	if status, body := o.do("GET", "/ready"); status != http.StatusServiceUnavailable || body != "DRAINING\n" {
		t.Errorf("after it was drained: %d %s", status, body)
	}
	if status, body := o.do("GET", "/listeners"); status != http.StatusOK || body != "" {
		t.Errorf("after it was drained: %d %s", status, body)
	}
}

func TestQuit(t *testing.T) {
	o := startOperated(t)
	if status, body := o.do("POST", "/quitquitquit"); status != http.StatusOK || body != "OK\n" {
		t.Errorf("%d %s", status, body)
	}
	runtest.Eventually(t, "the proxy has ended", func() bool {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: runtest.Patience}
		r, err := client.Get(o.url + "/ready")
		if err != nil {
			return true
		}
		_ = r.Body.Close()
		return false
	})
}
