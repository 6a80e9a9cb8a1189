package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// proxyUser is the user and group of the proxy.
const proxyUser = 1337

// templateData is what a template sees; the names are Istio's
// (istio.io/istio/pkg/kube/inject SidecarTemplateData), so that its templates work.
type templateData struct {
	TypeMeta                 metav1.TypeMeta
	DeploymentMeta           types.NamespacedName
	ObjectMeta               metav1.ObjectMeta
	Spec                     corev1.PodSpec
	ProxyConfig              *meshconfig.ProxyConfig
	MeshConfig               *meshconfig.MeshConfig
	Values                   map[string]any
	Revision                 string
	ProxyImage               string
	ProxyUID, ProxyGID       int64
	InboundTrafficPolicyMode string
	CompliancePolicy         string
	NativeSidecars           bool
}

// maxRendered bounds what a template makes of one pod, in bytes.
const maxRendered = 4 << 20

// render runs a template; what it makes is YAML of a pod.
func render(t *template.Template, data *templateData) ([]byte, error) {
	out := &bounded{}
	if err := t.Execute(out, data); err != nil {
		return nil, fmt.Errorf("template %q: %w", t.Name(), err)
	}
	return out.Bytes(), nil
}

type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		return 0, errors.New("it makes too much")
	}
	return b.Buffer.Write(p)
}

// functions are sprig's, but for those that look at the control plane's own environment
// and network, and Istio's (istio.io/istio/pkg/kube/inject/template.go).
func functions() template.FuncMap {
	all := sprig.TxtFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(all, name)
	}
	for name, f := range map[string]any{
		"annotation": func(m metav1.ObjectMeta, name string, standard any) string {
			if v, ok := m.Annotations[name]; ok {
				return v
			}
			return fmt.Sprint(standard)
		},
		"isset":               func(m map[string]string, key string) bool { _, ok := m[key]; return ok },
		"valueOrDefault":      valueOrDefault,
		"excludeInboundPort":  excludeInboundPort,
		"includeInboundPorts": func(all []corev1.Container) string { return containerPorts(all, "") },
		"applicationPorts":    func(all []corev1.Container) string { return containerPorts(all, proxyContainer) },
		"kubevirtInterfaces":  func(s string) string { return s },
		"toJSON":              toJSON, "toJson": toJSON, "structToJSON": toJSON,
		"protoToJSON":         protoToJSON,
		"fromJSON":            fromJSON,
		"toYaml":              toYAML,
		"indent":              indent,
		"directory":           func(s string) string { d, _ := path.Split(s); return d },
		"contains":            func(part, s string) bool { return strings.Contains(s, part) },
		"toLower":             strings.ToLower,
		"formatDuration":      func(d *durationpb.Duration) string { return d.AsDuration().String() },
		"appendMultusNetwork": appendMultusNetwork,
		"omitNil":             omitNil,
		"strdict":             stringDict,
	} {
		all[name] = f
	}
	return all
}

func valueOrDefault(value, standard any) any {
	if value == nil || value == "" {
		return standard
	}
	return value
}

// excludeInboundPort adds a port to those that are excluded, unless it is there; "0" is none.
func excludeInboundPort(port any, excluded string) string {
	text := strings.TrimSpace(fmt.Sprint(port))
	var out []string
	for part := range strings.SplitSeq(excluded, ",") {
		if part = strings.TrimSpace(part); part != "" && part != text {
			out = append(out, part)
		}
	}
	if text != "" && text != "0" {
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// containerPorts are the TCP ports of all containers but one.
func containerPorts(all []corev1.Container, but string) string {
	var out []string
	for _, c := range all {
		for _, p := range c.Ports {
			if c.Name != but && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				out = append(out, fmt.Sprint(p.ContainerPort))
			}
		}
	}
	return strings.Join(out, ",")
}

func toJSON(v any) (string, error) {
	if v == nil {
		return "{}", nil
	}
	b, err := json.Marshal(v)
	if string(b) == "null" {
		return "{}", err
	}
	return string(b), err
}

// protoToJSON is one line.
func protoToJSON(m proto.Message) (string, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer // protojson puts spaces where it likes
	err = json.Compact(&out, b)
	return out.String(), err
}

func fromJSON(text string) (out any, err error) {
	err = json.Unmarshal([]byte(text), &out)
	return out, err
}

func toYAML(v any) (string, error) {
	b, err := yaml.Marshal(v)
	return strings.TrimSuffix(string(b), "\n"), err
}

// indent indents all lines but the first, as Istio's templates expect.
func indent(spaces int, text string) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", min(max(spaces, 0), 100)))
}

func omitNil(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if v != nil {
			out[k] = v
		}
	}
	return out
}

func stringDict(pairs ...string) (map[string]string, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("strdict wants pairs")
	}
	out := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out, nil
}

// appendMultusNetwork adds a network to the annotation k8s.v1.cni.cncf.io/networks, a list
// with commas or JSON.
func appendMultusNetwork(existing, network string) (string, error) {
	if existing == "" {
		return network, nil
	}
	if !strings.HasPrefix(strings.TrimSpace(existing), "[") {
		for part := range strings.SplitSeq(existing, ",") {
			if strings.TrimSpace(part) == network {
				return existing, nil
			}
		}
		return existing + ", " + network, nil
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(existing), &list); err != nil {
		return "", fmt.Errorf("networks: %w", err)
	}
	for _, n := range list {
		if n["name"] == network {
			return existing, nil
		}
	}
	return toJSON(append(list, map[string]any{"name": network}))
}
