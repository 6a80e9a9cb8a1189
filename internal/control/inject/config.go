// Package inject puts the proxy into pods, and refuses bad objects of Istio: the mutating
// and the validating webhook of Istio's control plane.
//
// The core is pure: a pod, templates, values and MeshConfig in, a JSON patch or the reason
// for none out (Injector.Inject). Around it is a thin HTTP handler. It must not talk to an
// API server; who calls it hands in what ConfigMaps hold.
package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	meshconfig "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// maxConfig bounds the ConfigMap's keys, in bytes (etcd takes 1.5 MB of an object).
const maxConfig = 2 << 20

// sidecarTemplate is the template of pods that name none.
const sidecarTemplate = "sidecar"

// Options make an Injector.
type Options struct {
	// Config and Values are the keys of those names of the ConfigMap
	// istio-sidecar-injector: the templates, as YAML, and the installation's values, as JSON.
	Config, Values string
	Mesh           *meshconfig.MeshConfig // nil: defaults
	Revision       string                 // of the control plane; "": default
}

// Injector decides about pods. It does not change; a new configuration is a new one.
type Injector struct {
	policy        string
	defaults      []string
	templates     map[string]*template.Template
	aliases       map[string][]string
	never, always []labels.Selector
	annotations   map[string]string
	values        map[string]any
	mesh          *meshconfig.MeshConfig
	proxy         *meshconfig.ProxyConfig
	revision      string
	native        bool
}

// config is the form of the key "config" (istio.io/istio/pkg/kube/inject Config).
type config struct {
	Policy               string                 `json:"policy"`
	DefaultTemplates     []string               `json:"defaultTemplates"`
	Templates            map[string]string      `json:"templates"`
	Aliases              map[string][]string    `json:"aliases"`
	NeverInjectSelector  []metav1.LabelSelector `json:"neverInjectSelector"`
	AlwaysInjectSelector []metav1.LabelSelector `json:"alwaysInjectSelector"`
	InjectedAnnotations  map[string]string      `json:"injectedAnnotations"`
}

// New reads the configuration. Its errors name the key.
func New(o Options) (*Injector, error) {
	if len(o.Config) > maxConfig || len(o.Values) > maxConfig {
		return nil, fmt.Errorf("over %d bytes", maxConfig)
	}
	var c config
	if err := yaml.Unmarshal([]byte(o.Config), &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if c.Policy != "enabled" && c.Policy != "disabled" {
		return nil, fmt.Errorf("config: policy: %q is neither enabled nor disabled", c.Policy)
	}
	if len(c.DefaultTemplates) == 0 {
		c.DefaultTemplates = []string{sidecarTemplate}
	}
	in := &Injector{
		policy: c.Policy, defaults: c.DefaultTemplates, templates: map[string]*template.Template{}, aliases: c.Aliases,
		annotations: c.InjectedAnnotations, revision: o.Revision, mesh: o.Mesh,
	}
	if in.mesh == nil {
		in.mesh = &meshconfig.MeshConfig{}
	}
	if in.proxy = in.mesh.GetDefaultConfig(); in.proxy == nil {
		in.proxy = &meshconfig.ProxyConfig{}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Templates)) {
		t, err := template.New(name).Funcs(functions()).Parse(c.Templates[name])
		if err != nil {
			return nil, fmt.Errorf("config: templates: %w", err)
		}
		in.templates[name] = t
	}
	for _, name := range in.resolve(in.defaults) {
		if in.templates[name] == nil {
			return nil, fmt.Errorf("config: defaultTemplates: there is no template %q, only %s", name, in.known())
		}
	}
	var err error
	if in.never, err = selectors("neverInjectSelector", c.NeverInjectSelector); err != nil {
		return nil, err
	}
	if in.always, err = selectors("alwaysInjectSelector", c.AlwaysInjectSelector); err != nil {
		return nil, err
	}
	if in.values, err = readValues(o.Values); err != nil {
		return nil, err
	}
	// The proxy as an init container that goes on (Kubernetes 1.29), where the pod does not
	// say otherwise.
	in.native, _ = child(in.values, "global")["nativeSidecars"].(bool)
	return in, nil
}

func selectors(name string, all []metav1.LabelSelector) (out []labels.Selector, err error) {
	for i := range all {
		s, err := metav1.LabelSelectorAsSelector(&all[i])
		if err != nil {
			return nil, fmt.Errorf("config: %s[%d]: %w", name, i, err)
		}
		if !s.Empty() { // an empty one would select all pods; as Istio does
			out = append(out, s)
		}
	}
	return out, nil
}

// readValues reads the values, and lays them over what templates may expect to be there.
func readValues(text string) (map[string]any, error) {
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &given); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var base map[string]any
	if err := json.Unmarshal([]byte(defaultValues), &base); err != nil {
		return nil, err
	}
	if err := overlay(base, given, "values"); err != nil {
		return nil, err
	}
	return base, nil
}

// defaultValues are Istio's (manifests/charts/istio-control/istio-discovery/values.yaml)
// as far as templates read them without asking whether they are there.
const defaultValues = `{"revision":"","global":{"hub":"egret-mesh","tag":"latest","imagePullPolicy":"","istioNamespace":"istio-system","caAddress":"",
"pilotCertProvider":"istiod","jwtPolicy":"third-party-jwt","network":"","meshID":"","logAsJson":false,"sds":{"token":{"aud":"istio-ca"}},"sts":{"servicePort":0},
"multiCluster":{"clusterName":""},"imagePullSecrets":[],"mountMtlsCerts":false,"nativeSidecars":true,"remotePilotAddress":"",
"logging":{"level":"default:info"},"proxy_init":{"image":"proxyv2","resources":{},"forceApplyIptables":false},
"proxy":{"image":"proxyv2","clusterDomain":"cluster.local","logLevel":"warning","componentLogLevel":"misc:error","includeIPRanges":"*","excludeIPRanges":"",
"includeInboundPorts":"*","excludeInboundPorts":"","includeOutboundPorts":"","excludeOutboundPorts":"","statusPort":15020,"privileged":false,"enableCoreDump":false,
"readinessInitialDelaySeconds":0,"readinessPeriodSeconds":15,"readinessFailureThreshold":4,"startupProbe":{"enabled":true,"failureThreshold":600},
"holdApplicationUntilProxyStarts":false,"lifecycle":{},"resources":{},"tracer":"none","outlierLogPath":"","seccompProfile":{"type":"RuntimeDefault"}}},
"istio_cni":{"enabled":false},"sidecarInjectorWebhook":{"rewriteAppHTTPProbe":true},"pilot":{},"meshConfig":{"defaultConfig":{}},"env":{}}`

// overlay lays what is over the base, maps into maps. What is null stays as it was.
func overlay(base, over map[string]any, at string) error {
	for key, v := range over {
		if v == nil {
			continue
		}
		inner, isMap := base[key].(map[string]any)
		if !isMap {
			base[key] = v
			continue
		}
		deeper, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s.%s: is not a mapping", at, key)
		}
		if err := overlay(inner, deeper, at+"."+key); err != nil {
			return err
		}
	}
	return nil
}

// resolve puts what an alias stands for in its place.
func (in *Injector) resolve(names []string) (out []string) {
	for _, name := range names {
		if all, ok := in.aliases[name]; ok {
			out = append(out, all...)
		} else {
			out = append(out, name)
		}
	}
	return out
}

// known are the names of templates and aliases.
func (in *Injector) known() string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(in.templates)), maps.Keys(in.aliases))
	slices.Sort(all)
	return strings.Join(all, ", ")
}
