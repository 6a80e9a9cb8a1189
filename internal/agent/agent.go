// Package agent reads what Istio gives to the container in which pilot-agent and Envoy
// would run: the arguments and environment of the injected container, the files of the
// downward API, ProxyConfig. It makes of it who the proxy is, where its control plane and
// its authority are, and where it serves the kubelet, by pilot-agent's rules.
//
// It only reads, and below a folder that is handed in. It must not know Istio's Go types.
package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/egret-mesh/egret/internal/file"
	"github.com/egret-mesh/egret/internal/xds"
)

// Input is where everything is read from.
type Input struct {
	Role string // "sidecar" or "router"
	// Domain is the node's DNS domain (--domain); "": POD_NAMESPACE.svc.cluster.local.
	Domain string
	// Concurrency and ServiceCluster are the deprecated flags; 0 and "": not given.
	Concurrency    int
	ServiceCluster string
	Environ        []string // NAME=value
	// Root is the folder that stands for the container's "/".
	Root string
	// Addresses are those of the machine's interfaces.
	Addresses []netip.Addr
}

// Settings are what the proxy runs with.
type Settings struct {
	Node *corev3.Node
	// Discovery serves ADS, Authority signs.
	Discovery, Authority Server
	// ID is the workload's SPIFFE ID.
	ID *url.URL
	// TokenFile has the service account's token, and ClusterID is the cluster's that it
	// is of.
	TokenFile, ClusterID string
	CertTTL              time.Duration
	Grace, Jitter        float64 // see identity.Options
	CertSigner           string
	Admin                netip.AddrPort
	// StatusPort serves the kubelet and Prometheus, ReadyPort readiness alone, and
	// StatsPort metrics alone, on all addresses; 0: not served.
	StatusPort, ReadyPort, StatsPort uint16
	Probes                           map[string]Probe // of the application, by path
	DNSAddress                       string           // of the workload's DNS; "": not served
	SearchDomains                    []string         // of the workload's resolver, where DNS is served
	// DrainTimeout is how long connections may go on at the end, and LameDuck how long
	// new ones are accepted before that: of a gateway, whose clients hear of its end later
	// than it. A sidecar's application has ended before it.
	DrainTimeout, LameDuck time.Duration
	Concurrency            int // threads that run at a time; 0: Go's own choice
	// PodIP is where the application is.
	PodIP string
	// LeftOut tells what is given but means nothing here.
	LeftOut []string
}

// Server is one of the control plane's.
type Server struct {
	Address string // host:port
	TLS     xds.TLS
}

// variables are the environment.
type variables struct {
	all                  map[string]string
	readyPort, statsPort uint16
	discoveryName        string
	leftOut              []string
}

func (v *variables) get(name string) string { return v.all[name] }
func (v *variables) names() []string        { return slices.Sorted(maps.Keys(v.all)) }
func (v *variables) tell(format string, args ...any) {
	v.leftOut = append(v.leftOut, fmt.Sprintf(format, args...))
}

// refused are variables that ask for another source of the workload's identity. To go on
// without would be another identity than the one that was meant.
var refused = []struct{ name, harmless string }{
	{"FILE_MOUNTED_CERTS", "false"}, {"PROV_CERT", ""}, {"OUTPUT_CERTS", ""}, {"CREDENTIAL_FETCHER_TYPE", "JWT"},
	{"CA_PROVIDER", "Citadel"}, {"XDS_AUTH_PROVIDER", ""}, {"DISABLE_ENVOY", "false"},
}

// Read makes the settings. Its errors name the variable, file or field.
func Read(in Input) (*Settings, error) {
	v := &variables{all: map[string]string{}}
	for _, e := range in.Environ {
		name, value, _ := strings.Cut(e, "=")
		v.all[name] = value
	}
	if in.Role != "sidecar" && in.Role != "router" {
		return nil, fmt.Errorf("the role %q is neither sidecar nor router", in.Role)
	}
	for _, r := range refused {
		if value := v.get(r.name); value != "" && value != r.harmless {
			return nil, fmt.Errorf("%s=%q: egret-proxy has its certificate from IstioCertificateService with the service account's token only", r.name, value)
		}
	}
	for _, name := range []string{"POD_NAME", "POD_NAMESPACE"} {
		if v.get(name) == "" {
			return nil, fmt.Errorf("%s is not set", name)
		}
	}
	annotations, err := in.podInfo("annotations")
	if err != nil {
		return nil, err
	}
	labels, err := in.podInfo("labels")
	if err != nil {
		return nil, err
	}
	c, err := in.proxyConfig(v, annotations)
	if err != nil {
		return nil, err
	}
	s := &Settings{CertSigner: v.get("ISTIO_META_CERT_SIGNER"), ClusterID: v.get("ISTIO_META_CLUSTER_ID")}
	if err := errors.Join(in.ports(s, v, c), in.servers(s, v, c), in.identity(s, v)); err != nil {
		return nil, err
	}
	if s.Node, err = in.node(v, c, labels, annotations); err != nil {
		return nil, err
	}
	s.LeftOut, s.PodIP = v.leftOut, in.instanceIPs(v)[0]
	return s, nil
}

// proxyConfig reads ProxyConfig from the mesh's file, PROXY_CONFIG and the pod's
// annotation, each over the one before.
func (in *Input) proxyConfig(v *variables, annotations map[string]string) (*proxyConfig, error) {
	var texts []namedText
	mesh, err := file.Read(in.path("etc/istio/config/mesh"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		tree, err := parseYAML(namedText{"the mesh's configuration", string(mesh)})
		if err != nil {
			return nil, err
		}
		if part, ok := tree["defaultConfig"].(map[string]any); ok {
			text, err := marshal(part)
			if err != nil {
				return nil, err
			}
			texts = append(texts, namedText{"the mesh's defaultConfig", text})
		}
	}
	texts = append(texts,
		namedText{"PROXY_CONFIG", v.get("PROXY_CONFIG")},
		namedText{"the annotation proxy.istio.io/config", annotations["proxy.istio.io/config"]})
	c, err := readProxyConfig(texts...)
	if err != nil {
		return nil, err
	}
	if in.ServiceCluster != "" {
		c.ServiceCluster, c.tree["serviceCluster"] = in.ServiceCluster, in.ServiceCluster
	}
	return c, nil
}

// ports reads where the proxy serves its operator, and how long and wide it runs.
func (in *Input) ports(s *Settings, v *variables, c *proxyConfig) (err error) {
	port := func(name string, standard uint16) uint16 {
		n, errParse := strconv.ParseUint(cmp.Or(v.get(name), strconv.Itoa(int(standard))), 10, 16)
		if errParse != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, errParse))
		}
		return uint16(n)
	}
	v.readyPort, v.statsPort = port("ENVOY_STATUS_PORT", 15021), port("ENVOY_PROMETHEUS_PORT", 15090)
	s.StatusPort, s.ReadyPort, s.StatsPort = c.StatusPort, v.readyPort, v.statsPort
	if c.ProxyAdminPort != 0 {
		s.Admin = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.ProxyAdminPort)
	}
	if c.Concurrency != nil {
		s.Concurrency = max(*c.Concurrency, 0)
	}
	if in.Concurrency > 0 {
		s.Concurrency = in.Concurrency
	}
	if v.get("ISTIO_META_DNS_CAPTURE") == "true" && in.Role == "sidecar" || v.get("ISTIO_META_ENABLE_DNS_SERVER") == "true" {
		s.DNSAddress = cmp.Or(v.get("DNS_PROXY_ADDR"), "localhost:15053")
		var errSearch error
		s.SearchDomains, errSearch = in.searchDomains()
		err = errors.Join(err, errSearch)
	}
	drain, errDrain := c.drain()
	s.DrainTimeout = drain
	if in.Role == "router" {
		s.LameDuck = drain
	}
	var errProbes error
	s.Probes, errProbes = readProbes(v.get("ISTIO_KUBE_APP_PROBERS"))
	return errors.Join(err, errDrain, errProbes)
}

// searchDomains are those of resolv.conf(5), which the containers of a pod share: the last
// "search" counts.
func (in *Input) searchDomains() (out []string, err error) {
	text, err := file.Read(in.path("etc/resolv.conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "search" {
			out = words[1:]
		}
	}
	return slices.DeleteFunc(out, func(d string) bool { return d == "." }), err
}

// servers reads where ADS and the authority are, and whom to trust there.
func (in *Input) servers(s *Settings, v *variables, c *proxyConfig) (err error) {
	if s.Discovery, err = in.server(v, "discoveryAddress", c.DiscoveryAddress, "XDS_ROOT_CA"); err != nil {
		return err
	}
	v.discoveryName = s.Discovery.TLS.Names[0]
	s.Authority, err = in.server(v, "CA_ADDR", cmp.Or(v.get("CA_ADDR"), c.DiscoveryAddress), "CA_ROOT_CA")
	return err
}

func (in *Input) server(v *variables, what, address, rootVariable string) (Server, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Server{}, fmt.Errorf("%s: %w", what, err)
	}
	if port == "15010" {
		return Server{}, fmt.Errorf("%s: %s is istiod's port without TLS, where a token must not be sent", what, address)
	}
	root, err := in.root(v, rootVariable)
	if err != nil {
		return Server{}, fmt.Errorf("%s: %w", what, err)
	}
	name := cmp.Or(v.get("ISTIOD_SAN"), host)
	out := Server{Address: address, TLS: xds.TLS{CA: root, Names: []string{name}}}
	if _, err := netip.ParseAddr(name); err != nil {
		out.TLS.ServerName = name
	}
	return out, nil
}

// root is the file of the authorities for a control plane; "": the system's.
func (in *Input) root(v *variables, variable string) (string, error) {
	path := "var/run/secrets/istio/root-cert.pem"
	switch provider := v.get("PILOT_CERT_PROVIDER"); {
	case v.get(variable) == "SYSTEM":
		return "", nil
	case v.get(variable) != "":
		path = v.get(variable)
	case provider == "custom":
		path = "etc/certs/root-cert.pem"
	case provider == "none":
		return "", errors.New("PILOT_CERT_PROVIDER=none: then nobody says whom to trust as the control plane")
	}
	path = in.path(path)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the authorities of the control plane: %w", err)
	}
	return path, nil
}

// identity reads who the workload is, and by what it shows that.
func (in *Input) identity(s *Settings, v *variables) error {
	domain, account := cmp.Or(v.get("TRUST_DOMAIN"), "cluster.local"), cmp.Or(v.get("SERVICE_ACCOUNT"), "default")
	id, err := url.Parse("spiffe://" + domain + "/ns/" + v.get("POD_NAMESPACE") + "/sa/" + account)
	if err != nil {
		return fmt.Errorf("the workload's identity: %w", err)
	}
	s.ID = id
	s.TokenFile = in.path("var/run/secrets/tokens/istio-token")
	switch policy := v.get("JWT_POLICY"); policy {
	case "", "third-party-jwt":
	case "first-party-jwt":
		s.TokenFile = in.path("var/run/secrets/kubernetes.io/serviceaccount/token")
	default:
		return fmt.Errorf("JWT_POLICY=%q is neither third-party-jwt nor first-party-jwt", policy)
	}
	var errTTL, errGrace, errJitter error
	s.CertTTL, errTTL = time.ParseDuration(cmp.Or(v.get("SECRET_TTL"), "24h"))
	s.Grace, errGrace = strconv.ParseFloat(cmp.Or(v.get("SECRET_GRACE_PERIOD_RATIO"), "0.5"), 64)
	s.Jitter, errJitter = strconv.ParseFloat(cmp.Or(v.get("SECRET_GRACE_PERIOD_RATIO_JITTER"), "0.01"), 64)
	return errors.Join(named("SECRET_TTL", errTTL), named("SECRET_GRACE_PERIOD_RATIO", errGrace), named("SECRET_GRACE_PERIOD_RATIO_JITTER", errJitter))
}

func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
