package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Mode is what happens with destinations that the registry does not know.
type Mode uint8

// Modes. The zero value refuses, as Istio's enumeration does.
const (
	RegistryOnly Mode = iota
	AllowAny
)

// String is Istio's word.
func (m Mode) String() string {
	if m == AllowAny {
		return "ALLOW_ANY"
	}
	return "REGISTRY_ONLY"
}

// Options of New. The zero value is usable.
type Options struct {
	// RootNamespace is Istio's; default "istio-system". A MeshConfig's rootNamespace wins.
	RootNamespace string
	// Domain of the mesh; default "cluster.local".
	Domain string
	// DefaultPolicy applies when there is no MeshConfig. The zero value, REGISTRY_ONLY, is not
	// Istio's (ReadConfigMap of pkg/config/mesh/kubemesh has ALLOW_ANY): a ConfigMap that is
	// lost must not open the mesh.
	DefaultPolicy Mode
	// AccessLogFile applies when no MeshConfig has the field accessLogFile; "" is no
	// access log.
	AccessLogFile string
	// BuiltIn services exist without any object. They are read-only for the snapshot. Those
	// that stay the same in memory from one snapshot to the next cost nothing.
	BuiltIn []*Service
	// Workloads are pods that ServiceEntries may select (workloadSelector), beside the
	// WorkloadEntries among the objects; each endpoint with its Namespace and Labels. Those of
	// namespaces without such a ServiceEntry need not be there.
	Workloads []Endpoint
	// FilterGatewayClusters gives gateways only the clusters that their routes lead to
	// (istiod's PILOT_FILTER_GATEWAY_CLUSTER_CONFIG), instead of those of all services.
	FilterGatewayClusters bool
	// Pods: the proxies are those of pods. Sidecars take the connections to their workload
	// (15006), and each proxy has a certificate of the mesh by the names that Istio's agent
	// gives it. Without it they are on one machine, and have neither.
	Pods bool
	// Previous, when set, keeps the addresses that it allocated automatically, so
	// that a workload's cached DNS answers stay true. Services that are made of the same
	// objects as before are taken from it as they are.
	Previous *Snapshot
}

// Policy is an outbound traffic policy and the object that decided it.
type Policy struct {
	Mode Mode
	// EgressProxy takes what the registry does not know, under AllowAny; may be nil.
	EgressProxy *networking.Destination
	// Object is zero when the default decided.
	Object istioapi.Ref
}

// Snapshot is everything the control plane knows at one moment. It never changes.
type Snapshot struct {
	config                *meshconfig.MeshConfig // never nil
	configRef             istioapi.Ref
	policy                Policy
	rootNamespace         string
	domain                string
	filterGatewayClusters bool
	pods                  bool
	accessLogFile         string

	services     []*Service            // in Istio's order: oldest first
	builtIn      map[*Service]*Service // those of Options, as services has them
	joined       map[*Service]bool     // those that have WorkloadEntries too
	entries      map[*networking.ServiceEntry]*madeEntry
	indexed      *index
	labelKeys    []string
	auto         map[serviceKey]netip.Addr
	virtual      []*VirtualService
	byGateway    map[string][]*VirtualService
	destinations destinationRules
	gateways     []*istioapi.Gateway
	sidecars     map[string][]*istioapi.Sidecar
	telemetries  map[string][]*istioapi.Telemetry // by namespace, oldest first
	peers        map[string]*peerPolicies         // by namespace
	peersSum     string
	someDisable  bool // some PeerAuthentication says DISABLE
}

// New builds the snapshot. The objects must be valid (istioapi saw to that), and
// they must not be changed afterwards: the snapshot refers to them. The cost grows
// linearly with the number of objects.
func New(objects istioapi.Objects, options Options) (*Snapshot, []istioapi.Problem) {
	s := &Snapshot{
		config:        &meshconfig.MeshConfig{},
		policy:        Policy{Mode: options.DefaultPolicy},
		rootNamespace: cmp.Or(options.RootNamespace, "istio-system"),
		domain:        cmp.Or(options.Domain, "cluster.local"),
		accessLogFile: options.AccessLogFile,

		filterGatewayClusters: options.FilterGatewayClusters,
		pods:                  options.Pods,
	}
	if objects.MeshConfig != nil && objects.MeshConfig.Spec != nil {
		s.useMeshConfig(objects.MeshConfig)
	}
	r := &registry{
		snapshot: s,
		objects:  objects,
		pods:     options.Workloads,
		byKey:    make(map[serviceKey]int, len(objects.ServiceEntries)),
		previous: options.Previous,
	}
	if options.Pods && objects.MeshConfig == nil {
		r.problems = append(r.problems, istioapi.Problem{Severity: istioapi.Warning, Code: "no_mesh_config",
			Message: "there is no MeshConfig (key mesh of the ConfigMap istio in " + s.rootNamespace + "): until it is there the policy is " + s.policy.Mode.String() + ", where Istio would let everything out"})
	}
	r.build(options.BuiltIn)
	r.allocate(options.Previous)
	s.services, s.entries = r.services, r.entries
	s.indexed = newIndex(options.Previous, s.services)
	s.indexVirtualServices(objects.VirtualServices)
	s.indexDestinationRules(objects.DestinationRules)
	s.indexSidecars(objects.Sidecars)
	s.indexTelemetries(objects.Telemetries)
	if s.pods {
		s.indexPeers(objects.PeerAuthentications)
	}
	s.gateways = byAge(objects.Gateways, func(g *istioapi.Gateway) *istioapi.Meta { return &g.Meta })
	s.labelKeys = s.findLabelKeys()
	return s, slices.Concat(r.problems, s.reservedProblems(), s.gatewayProblems())
}

func (s *Snapshot) useMeshConfig(c *istioapi.MeshConfig) {
	s.config, s.configRef = c.Spec, c.Ref
	s.rootNamespace = cmp.Or(c.Spec.GetRootNamespace(), s.rootNamespace)
	if s.accessLogFile = cmp.Or(c.Spec.GetAccessLogFile(), s.accessLogFile); c.NoAccessLog {
		s.accessLogFile = ""
	}
	// Istio's default, when a MeshConfig says nothing, is ALLOW_ANY.
	s.policy = Policy{Mode: AllowAny, Object: c.Ref}
	if p := c.Spec.GetOutboundTrafficPolicy(); p != nil &&
		p.GetMode() == meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY {
		s.policy.Mode = RegistryOnly
	}
}

// Config is the MeshConfig as written; empty when there is none.
func (s *Snapshot) Config() *meshconfig.MeshConfig { return s.config }

// ConfigRef names the MeshConfig object; zero when there is none.
func (s *Snapshot) ConfigRef() istioapi.Ref { return s.configRef }

// Policy is the mesh's outbound traffic policy; a Sidecar may replace it (Scope.Policy).
func (s *Snapshot) Policy() Policy { return s.policy }

// RootNamespace is Istio's root namespace.
func (s *Snapshot) RootNamespace() string { return s.rootNamespace }

// Domain is the mesh's DNS domain, for instance "cluster.local".
func (s *Snapshot) Domain() string { return s.domain }

// FilterGatewayClusters says whether gateways get only the clusters that they use.
func (s *Snapshot) FilterGatewayClusters() bool { return s.filterGatewayClusters }

// Pods says whether proxies take the connections to their workloads, and have certificates
// of the mesh.
func (s *Snapshot) Pods() bool { return s.pods }

// AccessLogFile is the path of the access log; "" means none.
func (s *Snapshot) AccessLogFile() string { return s.accessLogFile }

// ConnectTimeout of clusters that say nothing: Istio's default is 10 s.
func (s *Snapshot) ConnectTimeout() time.Duration {
	if d := s.config.GetConnectTimeout(); d.IsValid() && d.AsDuration() > 0 {
		return d.AsDuration()
	}
	return 10 * time.Second
}

// Services lists all services, oldest first. The caller must not change them.
func (s *Snapshot) Services() []*Service { return s.services }

// byAge sorts objects as Istio does: oldest first, then in the order of their
// appearance, then by namespace and name. The input is not changed.
func byAge[T any](objects []T, meta func(T) *istioapi.Meta) []T {
	older := func(a, b T) int {
		x, y := meta(a), meta(b)
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Order, y.Order),
			cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	}
	if slices.IsSortedFunc(objects, older) { // as the file source gives them
		return objects
	}
	out := slices.Clone(objects)
	slices.SortStableFunc(out, older)
	return out
}

// subset reports whether all of selector's labels are in labels. An empty selector
// selects everything.
func subset(selector, labels map[string]string) bool {
	for k, v := range selector {
		if w, ok := labels[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// SelectedBy reports whether a selector (Istio's: every label must be there and
// equal) selects a node or an endpoint with labels.
func SelectedBy(selector, labels map[string]string) bool { return subset(selector, labels) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
