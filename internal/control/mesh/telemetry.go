package mesh

import (
	"maps"
	"slices"

	meshconfig "istio.io/api/mesh/v1alpha1"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// LogProvider is MeshConfig's description of one access log.
type LogProvider = meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider

// AccessLog is one access log that a node writes.
type AccessLog struct {
	// File is the provider's description; nil: MeshConfig's accessLogFile, -Format and
	// -Encoding.
	File *LogProvider
	// Expression filters (CEL); "": all is written.
	Expression string
}

// standardProvider is there without any MeshConfig, as in Istio.
const standardProvider = "envoy"

// LogProvider finds a provider of access logs by name. known is true also for one of
// another kind, which Egret does not have.
func (s *Snapshot) LogProvider(name string) (file *LogProvider, known bool) {
	for _, p := range s.config.GetExtensionProviders() {
		if p.GetName() == name {
			return p.GetEnvoyFileAccessLog(), true
		}
	}
	if name == standardProvider {
		return &LogProvider{Path: "/dev/stdout"}, true
	}
	return nil, false
}

func (s *Snapshot) indexTelemetries(objects []*istioapi.Telemetry) {
	s.telemetries = map[string][]*istioapi.Telemetry{}
	for _, t := range byAge(objects, func(t *istioapi.Telemetry) *istioapi.Meta { return &t.Meta }) {
		if len(t.Spec.GetTargetRefs()) == 0 && t.Spec.GetTargetRef() == nil {
			s.telemetries[t.Namespace] = append(s.telemetries[t.Namespace], t)
		}
	}
}

// telemetriesOf are the Telemetry objects for a node, from the widest to the narrowest:
// of the mesh, of the namespace, of the workload. Of several the oldest counts.
func (s *Snapshot) telemetriesOf(n Node) []*istioapi.Telemetry {
	var out []*istioapi.Telemetry
	first := func(namespace string, selects func(selector map[string]string) bool) {
		for _, t := range s.telemetries[namespace] {
			if selects(t.Spec.GetSelector().GetMatchLabels()) {
				out = append(out, t)
				return
			}
		}
	}
	all := func(selector map[string]string) bool { return len(selector) == 0 }
	first(s.rootNamespace, all)
	if n.Namespace != s.rootNamespace {
		first(n.Namespace, all)
	}
	first(n.Namespace, func(selector map[string]string) bool { return len(selector) > 0 && subset(selector, n.Labels) })
	return out
}

// legacyLog stands for accessLogFile among the names of providers, which are not empty.
const legacyLog = ""

// AccessLogs are the access logs of a node, sorted by provider. Where no Telemetry
// says anything, they are the default providers', and without those accessLogFile's.
//
// Each object from the widest to the narrowest replaces the providers of those before
// it when it names some, and applies to those before when it names none. Unlike in
// Istio it then applies to accessLogFile, too, where there are no default providers:
// there "disabled: true" would have no effect.
func (s *Snapshot) AccessLogs(n Node) []AccessLog {
	providers := s.config.GetDefaultProviders().GetAccessLogging()
	if len(providers) == 0 && s.accessLogFile != "" {
		providers = []string{legacyLog}
	}
	chosen := map[string]string{} // provider -> expression
	for _, p := range providers {
		chosen[p] = ""
	}
	for _, t := range s.telemetriesOf(n) {
		if named := namedProviders(t); len(named) > 0 {
			providers = named
			maps.DeleteFunc(chosen, func(p, _ string) bool { return !slices.Contains(named, p) })
		}
		for _, l := range t.Spec.GetAccessLogging() {
			if l.GetMatch().GetMode() == telemetry.WorkloadMode_SERVER {
				continue
			}
			s.apply(l, chosen, providers)
		}
	}
	var out []AccessLog
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		if name == legacyLog {
			out = append(out, AccessLog{Expression: chosen[name]})
		} else if file, _ := s.LogProvider(name); file != nil {
			out = append(out, AccessLog{File: file, Expression: chosen[name]})
		}
	}
	return out
}

func (s *Snapshot) apply(l *telemetry.AccessLogging, chosen map[string]string, providers []string) {
	if len(l.GetProviders()) > 0 {
		providers = names(l.GetProviders())
	}
	for _, p := range providers {
		if l.GetDisabled().GetValue() {
			delete(chosen, p)
		} else {
			chosen[p] = l.GetFilter().GetExpression()
		}
	}
}

// namedProviders are those that an object names for outgoing calls.
func namedProviders(t *istioapi.Telemetry) []string {
	var out []string
	for _, l := range t.Spec.GetAccessLogging() {
		if l.GetMatch().GetMode() != telemetry.WorkloadMode_SERVER {
			out = append(out, names(l.GetProviders())...)
		}
	}
	return out
}

func names(refs []*telemetry.ProviderRef) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.GetName()
	}
	return out
}
