package inject

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// Names of containers (istio.io/istio/pkg/kube/inject).
const (
	proxyContainer = "istio-proxy"
	initContainer  = "istio-init"
	// autoImage stands in a user's own istio-proxy container for the image that is injected.
	autoImage = "auto"
)

// Request is about one pod.
type Request struct {
	Pod       []byte // JSON
	Namespace string // where the pod names none
	// Env is more of the proxy's environment, from the webhook's path.
	Env map[string]string
	// Workload is what the pod belongs to where somebody knows (kube-inject does); nil: what
	// the pod tells.
	Workload *Workload
}

// Workload is what a pod belongs to.
type Workload struct {
	Kind, APIVersion, Name string
}

// Result of Inject.
type Result struct {
	// Skipped is why the pod gets no proxy; "": it gets one.
	Skipped string
	// Pod is the pod as it shall be, JSON; Patch what makes it of the one before, as JSON
	// Patch (RFC 6902), nil when there is nothing to change.
	Pod, Patch []byte
	// Warnings are for who made the pod.
	Warnings []string
}

// Inject decides about one pod. Its errors are for who made it: they name the annotation,
// or say what of the templates is wrong.
func (in *Injector) Inject(r Request) (Result, error) {
	var original map[string]any
	if err := json.Unmarshal(r.Pod, &original); err != nil {
		return Result{}, fmt.Errorf("the pod is no JSON object: %w", err)
	}
	pod, err := typed(original)
	if err != nil {
		return Result{}, err
	}
	namespace := pod.Namespace
	if namespace == "" {
		namespace = r.Namespace
	}
	if why := in.refusal(pod, namespace); why != "" {
		return Result{Skipped: why}, nil
	}
	warnings, err := checkAnnotations(pod.Annotations)
	if err != nil {
		return Result{}, err
	}
	before, err := undo(original, pod)
	if err != nil {
		return Result{}, err
	}
	if pod, err = typed(before); err != nil {
		return Result{}, err
	}
	data, err := in.data(pod, namespace, r)
	if err != nil {
		return Result{}, err
	}
	after, err := in.merge(before, pod, data)
	if err != nil {
		return Result{}, err
	}
	if err := in.finish(after, pod, data, r.Env); err != nil {
		return Result{}, err
	}
	result := Result{Warnings: append(warnings, asProxy(pod)...)}
	if result.Pod, err = json.Marshal(after); err != nil {
		return Result{}, err
	}
	if !reflect.DeepEqual(original, after) {
		result.Patch, err = json.Marshal(diff("", original, after, nil))
	}
	return result, err
}

// asProxy tells which containers run as the proxy's user or group: what they send is taken
// for the proxy's, and not captured.
func asProxy(pod *corev1.Pod) (warnings []string) {
	is := func(id *int64) bool { return id != nil && *id == proxyUser }
	all := pod.Spec.SecurityContext
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		own := c.SecurityContext
		if c.Name != proxyContainer && (own != nil && (is(own.RunAsUser) || is(own.RunAsGroup)) || all != nil && (is(all.RunAsUser) || is(all.RunAsGroup))) {
			warnings = append(warnings, fmt.Sprintf("the container %s runs as user or group %d, which is the proxy's: what it sends is not captured", c.Name, proxyUser))
		}
	}
	return warnings
}

// typed is the pod in Kubernetes' own type; what the type does not know is not in it.
func typed(m map[string]any) (*corev1.Pod, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(text, pod); err != nil {
		return nil, fmt.Errorf("not a pod: %w", err)
	}
	return pod, nil
}

// data is what the templates see.
func (in *Injector) data(pod *corev1.Pod, namespace string, r Request) (*templateData, error) {
	c, err := proxyConfig(in.proxy, pod.Annotations[annotationConfig])
	if err != nil {
		return nil, err
	}
	d := &templateData{
		ObjectMeta: pod.ObjectMeta, Spec: pod.Spec, ProxyConfig: c, MeshConfig: in.mesh, Values: in.values, Revision: in.revision,
		ProxyUID: proxyUser, ProxyGID: proxyUser, InboundTrafficPolicyMode: "passthrough",
		NativeSidecars: in.native, ProxyImage: in.image(pod, c),
	}
	if _, ok := pod.Annotations[annotationMode]; !ok {
		if err := mode(c.GetInterceptionMode().String()); err != nil {
			return nil, fmt.Errorf("interceptionMode: %w", err)
		}
	}
	if in.mesh.GetInboundTrafficPolicy().GetMode() == meshconfig.MeshConfig_InboundTrafficPolicy_LOCALHOST {
		d.InboundTrafficPolicyMode = "localhost"
	}
	if v, ok := pod.Annotations[annotationNative]; ok {
		d.NativeSidecars = v == "true"
	}
	if d.ObjectMeta.Namespace == "" {
		d.ObjectMeta.Namespace = namespace
	}
	d.DeploymentMeta, d.TypeMeta = workload(pod, namespace)
	if w := r.Workload; w != nil {
		d.DeploymentMeta = types.NamespacedName{Namespace: namespace, Name: w.Name}
		d.TypeMeta = metav1.TypeMeta{Kind: w.Kind, APIVersion: w.APIVersion}
	}
	return d, nil
}

// image is the proxy's: the one that the pod names in full, or HUB/NAME:TAG with the type
// of image as the tag's end.
func (in *Injector) image(pod *corev1.Pod, c *meshconfig.ProxyConfig) string {
	global, _ := in.values["global"].(map[string]any)
	proxy, _ := global["proxy"].(map[string]any)
	name := fmt.Sprint(proxy["image"])
	if v, ok := pod.Annotations[annotationImage]; ok {
		name = v
	}
	if strings.Contains(name, "/") {
		return name
	}
	kind := c.GetImage().GetImageType()
	if v, ok := pod.Annotations[annotationImageType]; ok {
		kind = v
	}
	tag := fmt.Sprint(global["tag"])
	if kind != "" {
		tag = strings.TrimSuffix(strings.TrimSuffix(tag, "-distroless"), "-debug")
	}
	if kind != "" && kind != "default" {
		tag += "-" + kind
	}
	return fmt.Sprintf("%v/%s:%s", global["hub"], name, tag)
}

// merge lays what the pod's templates make over the pod, and then again what the pod
// itself says of containers that both have.
func (in *Injector) merge(before map[string]any, pod *corev1.Pod, data *templateData) (map[string]any, error) {
	chosen := in.defaults
	if v, ok := pod.Annotations[annotationTemplates]; ok {
		chosen = nil
		for name := range strings.SplitSeq(v, ",") {
			chosen = append(chosen, strings.TrimSpace(name))
		}
	}
	after, injected := copyOf(before), map[string]any{}
	for _, name := range in.resolve(chosen) {
		t := in.templates[name]
		if t == nil {
			return nil, fmt.Errorf("the annotation %s: there is no template %q, only %s", annotationTemplates, name, in.known())
		}
		text, err := render(t, data)
		if err != nil {
			return nil, err
		}
		var over map[string]any
		if err := yaml.Unmarshal(text, &over); err != nil {
			return nil, fmt.Errorf("template %q makes no YAML: %w", name, err)
		}
		if injected, err = strategic(injected, over); err != nil {
			return nil, fmt.Errorf("template %q: %w", name, err)
		}
		moveOverride(after, injected)
		if after, err = strategic(after, over); err != nil {
			return nil, fmt.Errorf("template %q: %w", name, err)
		}
	}
	after, err := overrides(after, injected, before)
	if err != nil {
		return nil, err
	}
	return after, in.status(after, injected)
}

// strategic is Kubernetes' strategic merge of a patch onto a pod; both stay as they are.
func strategic(base, over map[string]any) (map[string]any, error) {
	schema, err := strategicpatch.NewPatchMetaFromStruct(corev1.Pod{})
	if err != nil {
		return nil, err
	}
	return strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(copyOf(base), copyOf(over), schema)
}

// status notes what was injected, for the next time and for tools.
func (in *Injector) status(after, injected map[string]any) error {
	spec := child(injected, "spec")
	revision := in.revision
	if revision == "" {
		revision = "default"
	}
	text, err := json.Marshal(injectionStatus{
		InitContainers: namesOf(spec["initContainers"]), Containers: namesOf(spec["containers"]),
		Volumes: namesOf(spec["volumes"]), ImagePullSecrets: namesOf(spec["imagePullSecrets"]), Revision: revision,
	})
	annotations := child(child(after, "metadata"), "annotations")
	annotations[annotationStatus] = string(text)
	for k, v := range in.annotations {
		annotations[k] = v
	}
	return err
}

// injectionStatus is the annotation sidecar.istio.io/status.
type injectionStatus struct {
	InitContainers   []string `json:"initContainers"`
	Containers       []string `json:"containers"`
	Volumes          []string `json:"volumes"`
	ImagePullSecrets []string `json:"imagePullSecrets"`
	Revision         string   `json:"revision"`
}

// child is the mapping of that name, made when it is not there.
func child(m map[string]any, name string) map[string]any {
	c, ok := m[name].(map[string]any)
	if !ok {
		c = map[string]any{}
		m[name] = c
	}
	return c
}

// elements are the mappings of a list.
func elements(list any) (out []map[string]any) {
	all, _ := list.([]any)
	for _, e := range all {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func namesOf(list any) (out []string) {
	for _, m := range elements(list) {
		if name, ok := m["name"].(string); ok {
			out = append(out, name)
		}
	}
	return out
}

func find(list any, name string) map[string]any {
	all := elements(list)
	if i := slices.IndexFunc(all, func(m map[string]any) bool { return m["name"] == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// copyOf is a copy that shares nothing.
func copyOf(m map[string]any) map[string]any {
	return copyValue(m).(map[string]any)
}

func copyValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = copyValue(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = copyValue(e)
		}
		return out
	}
	return v
}
