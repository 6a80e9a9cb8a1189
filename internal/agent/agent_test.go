package agent_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/agent"
)

// container is the folder of a pod's container.
func container(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// injected is the environment of an Istio 1.26 sidecar.
var injected = []string{
	"PILOT_CERT_PROVIDER=istiod", "CA_ADDR=istiod.istio-system.svc:15012", "POD_NAME=sleep-1", "POD_NAMESPACE=default",
	"INSTANCE_IP=10.244.0.7", "SERVICE_ACCOUNT=sleep", "HOST_IP=172.18.0.2", "ISTIO_CPU_LIMIT=2",
	`PROXY_CONFIG={"concurrency":1,"proxyMetadata":{"ISTIO_META_FROM_CONFIG":"a"},"terminationDrainDuration":"20s"}`,
	`ISTIO_META_POD_PORTS=[ {"containerPort":80,"protocol":"TCP","hostIP":"x"} ,{"name":"m","containerPort":81,"protocol":"TCP"}]`,
	"ISTIO_META_APP_CONTAINERS=sleep", "ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_NODE_NAME=kind", "ISTIO_META_INTERCEPTION_MODE=REDIRECT",
	"ISTIO_META_WORKLOAD_NAME=sleep", "ISTIO_META_OWNER=kubernetes://apis/apps/v1/namespaces/default/deployments/sleep",
	"ISTIO_META_MESH_ID=cluster.local", "TRUST_DOMAIN=cluster.local", "ISTIO_META_DNS_CAPTURE=true", `ISTIO_METAJSON_LABELS={"static":"yes"}`,
	`ISTIO_KUBE_APP_PROBERS={"/app-health/sleep/livez":{"httpGet":{"path":"/ok","port":8080,"scheme":"HTTP"},"timeoutSeconds":3},"/app-health/sleep/readyz":{"tcpSocket":{"port":81}},"/app-health/sleep/startupz":{"grpc":{"port":82,"service":"ready"}}}`,
}

var mounted = map[string]string{
	"var/run/secrets/istio/root-cert.pem": "PEM",
	"etc/resolv.conf":                     "search left.out\nsearch default.svc.cluster.local svc.cluster.local cluster.local .\nnameserver 10.96.0.10\noptions ndots:5\n",
	"etc/istio/pod/labels":                "app=\"sleep\"\npod-template-hash=\"5d\"\nistio-locality=\"r.z.s\"\n",
	"etc/istio/pod/annotations":           "a=\"line\\nline\"\nproxy.istio.io/config=\"drainDuration: 10s\"\n",
}

func TestReadAsPilotAgent(t *testing.T) {
	root := container(t, mounted)
	s, err := agent.Read(agent.Input{Role: "sidecar", Domain: "default.svc.cluster.local", Root: root, Environ: injected,
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.244.0.7"), netip.MustParseAddr("fd00::7"), netip.MustParseAddr("fe80::1")}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Node.Id != "sidecar~10.244.0.7~sleep-1.default~default.svc.cluster.local" || s.Node.Cluster != "sleep.default" || s.Node.Locality.GetZone() != "z" {
		t.Errorf("node: %v", s.Node)
	}
	want := map[string]any{
		"NAME": "sleep-1", "NAMESPACE": "default", "SERVICE_ACCOUNT": "sleep", "INSTANCE_IPS": "10.244.0.7,fd00::7",
		"ISTIO_VERSION": "1.26.0", "CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local", "NODE_NAME": "kind", "INTERCEPTION_MODE": "REDIRECT",
		"WORKLOAD_NAME": "sleep", "OWNER": "kubernetes://apis/apps/v1/namespaces/default/deployments/sleep", "APP_CONTAINERS": "sleep",
		"DNS_CAPTURE": "true", "FROM_CONFIG": "a", "static": "yes", "ENVOY_STATUS_PORT": 15021.0, "ENVOY_PROMETHEUS_PORT": 15090.0,
		"PILOT_SAN":     []any{"istiod.istio-system.svc"},
		"POD_PORTS":     `[{"containerPort":80,"protocol":"TCP"},{"name":"m","containerPort":81,"protocol":"TCP"}]`,
		"LABELS":        map[string]any{"app": "sleep", "static": "yes", "istio-locality": "r/z/s"},
		"STATIC_LABELS": map[string]any{"static": "yes"},
		"ANNOTATIONS":   map[string]any{"a": "line\nline", "proxy.istio.io/config": "drainDuration: 10s"},
		"PROXY_CONFIG": map[string]any{
			"binaryPath": "/usr/local/bin/envoy", "configPath": "./etc/istio/proxy", "serviceCluster": "istio-proxy", "concurrency": 1.0,
			"discoveryAddress": "istiod.istio-system.svc:15012", "controlPlaneAuthPolicy": "MUTUAL_TLS", "drainDuration": "10s",
			"terminationDrainDuration": "20s", "proxyAdminPort": 15000.0, "statusPort": 15020.0, "statNameLength": 189.0,
			"proxyMetadata": map[string]any{"ISTIO_META_FROM_CONFIG": "a"},
		},
	}
	if diff := cmp.Diff(want, s.Node.Metadata.AsMap()); diff != "" {
		t.Errorf("metadata: %s", diff)
	}
	server := s.Discovery
	if server.Address != "istiod.istio-system.svc:15012" || server.TLS.Names[0] != "istiod.istio-system.svc" || server.TLS.CA != filepath.Join(root, "var/run/secrets/istio/root-cert.pem") || s.Authority.Address != server.Address {
		t.Errorf("control plane: %+v, %+v", s.Discovery, s.Authority)
	}
	if s.ID.String() != "spiffe://cluster.local/ns/default/sa/sleep" || s.TokenFile != filepath.Join(root, "var/run/secrets/tokens/istio-token") || s.ClusterID != "Kubernetes" || s.CertTTL != 24*time.Hour || s.Grace != 0.5 || s.Jitter != 0.01 {
		t.Errorf("identity: %+v", s)
	}
	if s.Admin.String() != "127.0.0.1:15000" || s.StatusPort != 15020 || s.ReadyPort != 15021 || s.StatsPort != 15090 || s.DNSAddress != "localhost:15053" || !slices.Equal(s.SearchDomains, []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}) || s.DrainTimeout != 20*time.Second || s.Concurrency != 1 || s.PodIP != "10.244.0.7" {
		t.Errorf("ports and such: %+v", s)
	}
	probes := map[string]agent.Probe{
		"/app-health/sleep/livez":    {HTTP: &agent.HTTPProbe{Scheme: "http", Port: 8080, Path: "/ok"}, Timeout: 3 * time.Second},
		"/app-health/sleep/readyz":   {TCPPort: 81, Timeout: time.Second},
		"/app-health/sleep/startupz": {GRPC: &agent.GRPCProbe{Port: 82, Service: "ready"}, Timeout: time.Second},
	}
	if diff := cmp.Diff(probes, s.Probes); diff != "" {
		t.Error(diff)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		role string
		env  string
		drop string // a file
		want string
	}{
		"a role that is none":      {role: "waypoint", want: "waypoint"},
		"no namespace":             {env: "POD_NAMESPACE=", want: "POD_NAMESPACE"},
		"no root":                  {drop: "var/run/secrets/istio/root-cert.pem", want: "root-cert.pem"},
		"nobody to trust":          {env: "PILOT_CERT_PROVIDER=none", want: "PILOT_CERT_PROVIDER"},
		"an authority without TLS": {env: "CA_ADDR=istiod.istio-system.svc:15010", want: "without TLS"},
		"ADS without TLS":          {env: `PROXY_CONFIG={"discoveryAddress":"istiod:15010"}`, want: "without TLS"},
		"certificates from files":  {env: "FILE_MOUNTED_CERTS=true", want: "FILE_MOUNTED_CERTS"},
		"another authority":        {env: "CA_PROVIDER=GoogleCA", want: "CA_PROVIDER"},
		"another policy":           {env: "JWT_POLICY=none", want: "JWT_POLICY"},
		"YAML that is none":        {env: "PROXY_CONFIG={", want: "PROXY_CONFIG"},
		"a port that is none":      {env: `PROXY_CONFIG={"statusPort":70000}`, want: "statusPort"},
		"a duration that is none":  {env: `PROXY_CONFIG={"terminationDrainDuration":"soon"}`, want: "terminationDrainDuration"},
		"a life that is none":      {env: "SECRET_TTL=long", want: "SECRET_TTL"},
		"ports that are none":      {env: "ISTIO_META_POD_PORTS=x", want: "POD_PORTS"},
		"a probe of another kind":  {env: `ISTIO_KUBE_APP_PROBERS={"/app-health/a/livez":{"exec":{"command":["true"]}}}`, want: "httpGet, tcpSocket and grpc"},
		"a probe elsewhere":        {env: `ISTIO_KUBE_APP_PROBERS={"/stats/prometheus":{"tcpSocket":{"port":1}}}`, want: "/stats/prometheus"},
	} {
		t.Run(name, func(t *testing.T) {
			root := container(t, mounted)
			if tc.drop != "" {
				if err := os.Remove(filepath.Join(root, tc.drop)); err != nil {
					t.Fatal(err)
				}
			}
			role := "router"
			if tc.role != "" {
				role = tc.role
			}
			_, err := agent.Read(agent.Input{Role: role, Root: root, Environ: append(append([]string{}, injected...), tc.env)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func FuzzParsePodInfo(f *testing.F) {
	f.Add("a=\"b\"\nc=\"d\\\"\"\n")
	f.Add("=\n==\"\"")
	f.Fuzz(func(t *testing.T, text string) {
		out, err := agent.ParsePodInfo(text)
		if err == nil && len(out) > strings.Count(text, "=") {
			t.Errorf("%d entries of %q", len(out), text)
		}
	})
}
