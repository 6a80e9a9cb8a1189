package istioapi

import (
	"fmt"
	"slices"
	"strings"
)

const (
	networkingGroup  = "networking.istio.io"
	securityGroup    = "security.istio.io"
	telemetryGroup   = "telemetry.istio.io"
	defaultNamespace = "default"
	systemNamespace  = "istio-system"
	meshConfigName   = "istio"
	meshKey          = "mesh"
)

// group is an API group of Istio's: the versions of it, the kinds that Egret reads, and what
// the absence of the others means.
type group struct {
	versions []string
	used     []string
	unused   map[string]string
}

var groups = map[string]group{
	networkingGroup: {
		versions: []string{"v1", "v1beta1", "v1alpha3"},
		used:     []string{"ServiceEntry", "Gateway", "VirtualService", "DestinationRule", "Sidecar", "WorkloadEntry"},
		unused: map[string]string{
			"EnvoyFilter":   "no Envoy configuration is patched",
			"WorkloadGroup": "write a WorkloadEntry for every workload",
			"ProxyConfig":   "the proxy has no settings of its own",
		},
	},
	securityGroup: {
		versions: []string{"v1", "v1beta1"},
		used:     []string{"PeerAuthentication"},
		unused: map[string]string{
			"AuthorizationPolicy":   "NOTHING is denied or allowed by it; what may be called is decided by ServiceEntry, Sidecar and VirtualService, and PeerAuthentication says whether callers need an identity",
			"RequestAuthentication": "no token is checked",
		},
	},
	telemetryGroup:        {versions: []string{"v1", "v1alpha1"}, used: []string{"Telemetry"}},
	"extensions.istio.io": {unused: map[string]string{"WasmPlugin": "no plugin is loaded"}},
	"install.istio.io":    {unused: map[string]string{"IstioOperator": "for MeshConfig use the ConfigMap \"istio\" in istio-system"}},
}

// groupOf is the API group of a kind that Egret reads; "" where it reads no such kind.
func groupOf(kind string) string {
	for name, g := range groups {
		if slices.Contains(g.used, kind) {
			return name
		}
	}
	return ""
}

// newObject makes the value for the kind being read, or tells why there is none.
func (d *decoder) newObject() Object {
	name, version, hasGroup := strings.Cut(d.meta.APIVersion, "/")
	if !hasGroup {
		name, version = "", name
	}
	kind, g := d.meta.Kind, groups[name]
	switch {
	case name == "" && version == "v1" && kind == "Namespace":
		return &Namespace{}
	case name == "" && version == "v1" && kind == "ConfigMap":
		return &MeshConfig{}
	case slices.Contains(g.used, kind) && slices.Contains(g.versions, version):
		return newOf(kind)
	case slices.Contains(g.used, kind):
		d.report(Error, CodeUnknownKind, "apiVersion", d.meta.Position.Line, "%q has no version %q; use one of %s",
			name, version, strings.Join(g.versions, ", "))
		return nil
	}
	d.meta.Namespace = ""
	d.unused(name, kind)
	return nil
}

func newOf(kind string) Object {
	switch kind {
	case "ServiceEntry":
		return &ServiceEntry{}
	case "Gateway":
		return &Gateway{}
	case "VirtualService":
		return &VirtualService{}
	case "DestinationRule":
		return &DestinationRule{}
	case "Sidecar":
		return &Sidecar{}
	case "PeerAuthentication":
		return &PeerAuthentication{}
	case "Telemetry":
		return &Telemetry{}
	}
	return &WorkloadEntry{}
}

// unused tells about an object that is not read.
func (d *decoder) unused(name, kind string) {
	line := d.meta.Position.Line
	g, isIstio := groups[name]
	meaning, known := g.unused[kind]
	switch {
	case known:
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: %s", meaning)
	case isIstio:
		d.report(Error, CodeUnknownKind, "kind", line, "%q has no kind %q%s", name, kind, Suggest(kind, append(sortedKeys(g.unused), g.used...)))
	case groupOf(kind) != "" && name != "gateway.networking.k8s.io":
		d.report(Error, CodeUnknownKind, "apiVersion", line, "%q has no kind %q%s", d.meta.APIVersion, kind, apiVersionHint(kind))
	case name == "gateway.networking.k8s.io":
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: the Kubernetes Gateway API is not read, use networking.istio.io Gateway and VirtualService")
	case name == "" && kind == "Service":
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: only ServiceEntry objects are in the registry, write one for what may be called")
	default:
		d.report(Info, CodeNotUsed, "", line, "not used by egret")
	}
}

func apiVersionHint(kind string) string {
	if name := groupOf(kind); name != "" {
		return fmt.Sprintf("; %s is %s/v1", kind, name)
	}
	if kind == "Namespace" || kind == "ConfigMap" {
		return "; " + kind + " is v1"
	}
	return ""
}

// usedObject is false for a ConfigMap that is not the mesh configuration.
func usedObject(object Object, ref Ref) bool {
	if _, ok := object.(*MeshConfig); !ok {
		return true
	}
	return ref.Name == meshConfigName && ref.Namespace == systemNamespace
}
