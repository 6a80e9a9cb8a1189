package istioapi

import (
	"fmt"
	"slices"
	"strings"
)

const (
	networkingGroup  = "networking.istio.io"
	telemetryGroup   = "telemetry.istio.io"
	defaultNamespace = "default"
	systemNamespace  = "istio-system"
	meshConfigName   = "istio"
	meshKey          = "mesh"
)

var (
	networkingVersions = []string{"v1", "v1beta1", "v1alpha3"}
	telemetryVersions  = []string{"v1", "v1alpha1"}
)

// usedKinds are the kinds of networking.istio.io that Egret reads.
var usedKinds = []string{"ServiceEntry", "Gateway", "VirtualService", "DestinationRule", "Sidecar", "WorkloadEntry"}

// unusedKinds are Istio's other kinds by API group, and what their absence means.
var unusedKinds = map[string]map[string]string{
	networkingGroup: {
		"EnvoyFilter":   "no Envoy configuration is patched",
		"WorkloadGroup": "write a WorkloadEntry for every workload",
		"ProxyConfig":   "the proxy has no settings of its own",
	},
	"security.istio.io": {
		"AuthorizationPolicy":   "NOTHING is denied or allowed by it; what may be called is decided by ServiceEntry, Sidecar and VirtualService",
		"PeerAuthentication":    "there is no mutual TLS between proxies",
		"RequestAuthentication": "no token is checked",
	},
	telemetryGroup:        {},
	"extensions.istio.io": {"WasmPlugin": "no plugin is loaded"},
	"install.istio.io":    {"IstioOperator": "for MeshConfig use the ConfigMap \"istio\" in istio-system"},
}

// newObject makes the value for the kind being read, or tells why there is none.
func (d *decoder) newObject() Object {
	group, version, hasGroup := strings.Cut(d.meta.APIVersion, "/")
	if !hasGroup {
		group, version = "", group
	}
	kind := d.meta.Kind
	switch {
	case group == "" && version == "v1" && kind == "Namespace":
		return &Namespace{}
	case group == "" && version == "v1" && kind == "ConfigMap":
		return &MeshConfig{}
	case group == telemetryGroup && kind == "Telemetry":
		if slices.Contains(telemetryVersions, version) {
			return &Telemetry{}
		}
		d.report(Error, CodeUnknownKind, "apiVersion", d.meta.Position.Line, "%q has no version %q; use one of %s",
			group, version, strings.Join(telemetryVersions, ", "))
		return nil
	case group == networkingGroup && slices.Contains(usedKinds, kind):
		if slices.Contains(networkingVersions, version) {
			return newNetworking(kind)
		}
		d.report(Error, CodeUnknownKind, "apiVersion", d.meta.Position.Line, "%q has no version %q; use one of %s",
			group, version, strings.Join(networkingVersions, ", "))
		return nil
	}
	d.meta.Namespace = ""
	d.unused(group, kind)
	return nil
}

func newNetworking(kind string) Object {
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
	}
	return &WorkloadEntry{}
}

// unused tells about an object that is not read.
func (d *decoder) unused(group, kind string) {
	line := d.meta.Position.Line
	kinds, isIstio := unusedKinds[group]
	meaning, known := kinds[kind]
	switch {
	case known:
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: %s", meaning)
	case isIstio:
		names := sortedKeys(kinds)
		if group == networkingGroup {
			names = append(names, usedKinds...)
		}
		if group == telemetryGroup {
			names = append(names, "Telemetry")
		}
		d.report(Error, CodeUnknownKind, "kind", line, "%q has no kind %q%s", group, kind, Suggest(kind, names))
	case slices.Contains(usedKinds, kind) && group != "gateway.networking.k8s.io":
		d.report(Error, CodeUnknownKind, "apiVersion", line, "%q has no kind %q%s", d.meta.APIVersion, kind, apiVersionHint(kind))
	case group == "gateway.networking.k8s.io":
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: the Kubernetes Gateway API is not read, use networking.istio.io Gateway and VirtualService")
	case group == "" && kind == "Service":
		d.report(Warning, CodeNotUsed, "", line, "not used by egret: only ServiceEntry objects are in the registry, write one for what may be called")
	default:
		d.report(Info, CodeNotUsed, "", line, "not used by egret")
	}
}

func apiVersionHint(kind string) string {
	switch {
	case slices.Contains(usedKinds, kind):
		return fmt.Sprintf("; %s is %s/v1", kind, networkingGroup)
	case kind == "Telemetry":
		return fmt.Sprintf("; %s is %s/v1", kind, telemetryGroup)
	case kind == "Namespace", kind == "ConfigMap":
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
