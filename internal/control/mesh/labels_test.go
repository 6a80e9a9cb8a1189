package mesh

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// notOfNodes are the fields with keys, of Istio's objects, that say nothing about a node,
// and what they are about.
var notOfNodes = map[string]string{
	"VirtualService.http.route.headers.request.set":                                                                    "headers",
	"VirtualService.http.route.headers.request.add":                                                                    "headers",
	"VirtualService.http.route.headers.response.set":                                                                   "headers",
	"VirtualService.http.route.headers.response.add":                                                                   "headers",
	"VirtualService.http.headers.request.set":                                                                          "headers",
	"VirtualService.http.headers.request.add":                                                                          "headers",
	"VirtualService.http.headers.response.set":                                                                         "headers",
	"VirtualService.http.headers.response.add":                                                                         "headers",
	"DestinationRule.subsets.labels":                                                                                   "labels of endpoints",
	"ServiceEntry.endpoints.labels":                                                                                    "labels of endpoints",
	"ServiceEntry.workload_selector.labels":                                                                            "labels of endpoints",
	"DestinationRule.traffic_policy.load_balancer.zone_aware_lb_setting.failover_priority":                             "not read",
	"DestinationRule.traffic_policy.port_level_settings.load_balancer.zone_aware_lb_setting.failover_priority":         "not read",
	"DestinationRule.subsets.traffic_policy.load_balancer.zone_aware_lb_setting.failover_priority":                     "not read",
	"DestinationRule.subsets.traffic_policy.port_level_settings.load_balancer.zone_aware_lb_setting.failover_priority": "not read",
	"MeshConfig.zone_aware_lb_setting.failover_priority":                                                               "not read",
	"MeshConfig.default_config.proxy_metadata":                                                                         "the proxy's own settings",
	"MeshConfig.default_config.runtime_values":                                                                         "the proxy's own settings",
	"MeshConfig.service_scope_configs.namespace_selector.matchLabels":                                                  "labels of namespaces and services",
	"MeshConfig.service_scope_configs.services_selector.matchLabels":                                                   "labels of namespaces and services",
	"MeshConfig.discovery_selectors.matchLabels":                                                                       "labels of namespaces and services",
	"MeshConfig.service_entry_visibility.policies.matching_rules.namespace_selector.matchLabels":                       "labels of namespaces and services",
	"MeshConfig.extension_providers.envoy_ext_authz_http.include_additional_headers_in_check":                          "a provider's settings",
	"MeshConfig.extension_providers.stackdriver.logging.labels":                                                        "a provider's settings",
}

// Whatever field of Istio's objects chooses nodes by their labels, its keys are among
// those that tell nodes apart: otherwise two nodes would share what is not the same. A
// field that a new version of Istio brings fails the test until somebody has judged it.
func TestLabelKeys(t *testing.T) {
	judged := map[string]bool{}
	for _, of := range []struct {
		name string
		spec proto.Message // what the object needs to be used
		add  func(*istioapi.Objects, proto.Message)
	}{
		{"Sidecar", &networking.Sidecar{}, func(o *istioapi.Objects, m proto.Message) {
			o.Sidecars = append(o.Sidecars, &istioapi.Sidecar{Meta: metaOf("Sidecar"), Spec: m.(*networking.Sidecar)})
		}},
		{"Gateway", &networking.Gateway{Servers: []*networking.Server{{Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{"*"}}}}, func(o *istioapi.Objects, m proto.Message) {
			o.Gateways = append(o.Gateways, &istioapi.Gateway{Meta: metaOf("Gateway"), Spec: m.(*networking.Gateway)})
		}},
		{"VirtualService", &networking.VirtualService{Hosts: []string{"a.example.com"}}, func(o *istioapi.Objects, m proto.Message) {
			o.VirtualServices = append(o.VirtualServices, &istioapi.VirtualService{Meta: metaOf("VirtualService"), Spec: m.(*networking.VirtualService)})
		}},
		{"DestinationRule", &networking.DestinationRule{Host: "a.example.com"}, func(o *istioapi.Objects, m proto.Message) {
			o.DestinationRules = append(o.DestinationRules, &istioapi.DestinationRule{Meta: metaOf("DestinationRule"), Spec: m.(*networking.DestinationRule)})
		}},
		{"ServiceEntry", &networking.ServiceEntry{Hosts: []string{"a.example.com"}}, func(o *istioapi.Objects, m proto.Message) {
			o.ServiceEntries = append(o.ServiceEntries, &istioapi.ServiceEntry{Meta: metaOf("ServiceEntry"), Spec: m.(*networking.ServiceEntry)})
		}},
		{"Telemetry", &telemetry.Telemetry{}, func(o *istioapi.Objects, m proto.Message) {
			o.Telemetries = append(o.Telemetries, &istioapi.Telemetry{Meta: metaOf("Telemetry"), Spec: m.(*telemetry.Telemetry)})
		}},
		{"MeshConfig", &meshconfig.MeshConfig{}, func(o *istioapi.Objects, m proto.Message) {
			o.MeshConfig = &istioapi.MeshConfig{Meta: metaOf("MeshConfig"), Spec: m.(*meshconfig.MeshConfig)}
		}},
	} {
		for _, path := range keyed(of.spec.ProtoReflect().Descriptor(), nil) {
			name := of.name
			for _, f := range path {
				name += "." + string(f.Name())
			}
			judged[name] = true
			m := proto.Clone(of.spec)
			set(m.ProtoReflect(), path)
			var objects istioapi.Objects
			of.add(&objects, m)
			s, _ := New(objects, Options{})
			counts := slices.Contains(s.LabelKeys(), "the-key")
			if _, not := notOfNodes[name]; counts == not {
				t.Errorf("%s: among LabelKeys: %v", name, counts)
			}
		}
	}
	for name := range notOfNodes {
		if !judged[name] {
			t.Errorf("Istio has no field %s", name)
		}
	}
}

func metaOf(kind string) istioapi.Meta {
	return istioapi.Meta{Ref: istioapi.Ref{Kind: kind, Namespace: "default", Name: "x"}}
}

// keyed are the paths to all fields of a message that are maps from text to text, or that
// name labels in another way.
func keyed(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) (out [][]protoreflect.FieldDescriptor) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		at := append(slices.Clone(path), f)
		switch {
		case f.IsMap() && f.MapValue().Kind() == protoreflect.StringKind, f.Name() == "failover_priority":
			out = append(out, at)
		case f.IsMap() || f.Message() == nil || strings.HasPrefix(string(f.Message().FullName()), "google.protobuf."):
		case !slices.ContainsFunc(path, func(p protoreflect.FieldDescriptor) bool { return p.Message() == f.Message() }):
			out = append(out, keyed(f.Message(), at)...)
		}
	}
	return out
}

// set gives the field at a path the label "the-key".
func set(m protoreflect.Message, path []protoreflect.FieldDescriptor) {
	f := path[0]
	switch {
	case f.IsMap():
		m.Mutable(f).Map().Set(protoreflect.ValueOfString("the-key").MapKey(), protoreflect.ValueOfString("v"))
	case len(path) == 1:
		m.Mutable(f).List().Append(protoreflect.ValueOfString("the-key"))
	case f.IsList():
		l := m.Mutable(f).List()
		if l.Len() == 0 {
			l.AppendMutable()
		}
		set(l.Get(0).Message(), path[1:])
	default:
		set(m.Mutable(f).Message(), path[1:])
	}
}
