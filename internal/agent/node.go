package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	metaPrefix     = "ISTIO_META_"
	metaJSONPrefix = "ISTIO_METAJSON_"
	// templateHash is a label that tells replica sets apart, not workloads; pilot-agent
	// leaves it out.
	templateHash  = "pod-template-hash"
	localityLabel = "istio-locality"
	// istioVersion is what the node says that it is like, unless ISTIO_META_ISTIO_VERSION
	// says otherwise: control planes choose by it what they send.
	istioVersion = "1.26.0"
)

// node is who the proxy says that it is, with the id and metadata that pilot-agent would
// write (GetNodeMetaData and ConvertNodeToXDSNode of istio.io/istio/pkg/bootstrap).
func (in *Input) node(v *variables, c *proxyConfig, labels, annotations map[string]string) (*corev3.Node, error) {
	meta, err := v.metadata(c)
	if err != nil {
		return nil, err
	}
	static := v.jsonLabels()
	all := maps.Clone(static)
	for k, value := range labels {
		if k != templateHash {
			all = put(all, k, value)
		}
	}
	locality := strings.ReplaceAll(all[localityLabel], ".", "/")
	if locality != "" {
		all[localityLabel] = locality
	}
	addresses := in.instanceIPs(v)
	set := func(key string, value any) {
		switch x := value.(type) {
		case string:
			if x != "" {
				meta[key] = x
			}
		case map[string]string:
			if len(x) > 0 {
				meta[key] = generic(x)
			}
		default:
			meta[key] = value
		}
	}
	set("LABELS", all)
	set("STATIC_LABELS", static)
	set("ANNOTATIONS", annotations)
	set("PROXY_CONFIG", c.tree)
	set("INSTANCE_IPS", strings.Join(addresses, ","))
	set("NAME", v.get("POD_NAME"))
	set("NAMESPACE", v.get("POD_NAMESPACE"))
	set("SERVICE_ACCOUNT", v.get("SERVICE_ACCOUNT"))
	set("ENVOY_STATUS_PORT", int(v.readyPort))
	set("ENVOY_PROMETHEUS_PORT", int(v.statsPort))
	set("PILOT_SAN", []any{v.discoveryName})
	if _, said := meta["ISTIO_VERSION"]; !said {
		set("ISTIO_VERSION", istioVersion)
	}
	fields, err := structpb.NewStruct(plainNumbers(meta))
	if err != nil {
		return nil, fmt.Errorf("the node's metadata: %w", err)
	}
	id := strings.Join([]string{in.Role, slices.Concat(addresses, []string{""})[0], v.get("POD_NAME") + "." + v.get("POD_NAMESPACE"), in.domain(v)}, "~")
	workload, _ := meta["WORKLOAD_NAME"].(string)
	return &corev3.Node{
		Id: id, Cluster: c.cluster(all, v.get("POD_NAMESPACE"), workload), Metadata: fields, Locality: parseLocality(locality),
	}, nil
}

func put(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

func generic(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// plainNumbers brings a tree of YAML or JSON to the types that protobuf's Struct takes.
func plainNumbers(tree map[string]any) map[string]any {
	text, err := json.Marshal(tree)
	if err != nil {
		return tree // NewStruct says what is wrong with it
	}
	out := map[string]any{}
	if json.Unmarshal(text, &out) != nil {
		return tree
	}
	return out
}

func (in *Input) domain(v *variables) string {
	return cmp.Or(in.Domain, v.get("POD_NAMESPACE")+".svc.cluster.local")
}

// instanceIPs are INSTANCE_IP, which must be the first, and the machine's others.
func (in *Input) instanceIPs(v *variables) []string {
	var out []string
	if pod, err := netip.ParseAddr(v.get("INSTANCE_IP")); err == nil {
		out = append(out, pod.String())
	}
	for _, a := range in.Addresses {
		a = a.Unmap()
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a.String()) {
			out = append(out, a.String())
		}
	}
	if len(out) == 0 {
		return []string{"127.0.0.1", "::1"}
	}
	return out
}

// metadata is what ISTIO_META_ and ISTIO_METAJSON_ variables say, those of
// proxyMetadata too: the former as strings, the latter the fields of an object.
func (v *variables) metadata(c *proxyConfig) (map[string]any, error) {
	meta := map[string]any{}
	for k, value := range c.ProxyMetadata {
		if name, ok := strings.CutPrefix(k, metaPrefix); ok {
			meta[name] = value
		}
	}
	for _, k := range v.names() {
		if name, ok := strings.CutPrefix(k, metaPrefix); ok {
			meta[name] = v.get(k)
		}
		if strings.HasPrefix(k, metaJSONPrefix) {
			if err := json.Unmarshal([]byte(v.get(k)), &meta); err != nil {
				v.tell("%s is not a JSON object: %v", k, err)
			}
		}
	}
	if meta == nil {
		meta = map[string]any{} // a JSON null
	}
	for k, value := range meta {
		if value == "" {
			delete(meta, k)
		}
	}
	ports, _ := meta["POD_PORTS"].(string)
	if ports == "" {
		return meta, nil
	}
	return meta, normalPorts(meta, ports)
}

// normalPorts writes POD_PORTS as pilot-agent does.
func normalPorts(meta map[string]any, text string) error {
	var ports []struct {
		Name          string `json:"name,omitempty"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
	}
	if err := json.Unmarshal([]byte(text), &ports); err != nil {
		return fmt.Errorf("%sPOD_PORTS: %w", metaPrefix, err)
	}
	normal, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	meta["POD_PORTS"] = string(normal)
	return nil
}

// jsonLabels are the labels of ISTIO_METAJSON_LABELS.
func (v *variables) jsonLabels() map[string]string {
	text := v.get(metaJSONPrefix + "LABELS")
	if text == "" {
		return nil
	}
	var out map[string]string
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		v.tell("%sLABELS is not an object of strings: %v", metaJSONPrefix, err)
		return nil
	}
	return out
}

// cluster is the node's cluster (getServiceCluster of istio.io/istio/pkg/bootstrap).
func (c *proxyConfig) cluster(labels map[string]string, namespace, workload string) string {
	canonical := cmp.Or(labels["service.istio.io/canonical-name"], labels["app.kubernetes.io/name"], labels["app"], workload, "istio-proxy")
	name := c.ServiceCluster
	switch c.TracingServiceName {
	case "CANONICAL_NAME_ONLY":
		name = canonical
	case "CANONICAL_NAME_AND_NAMESPACE":
		if name = canonical; namespace != "" {
			return canonical + "." + namespace
		}
	case "APP_LABEL_AND_NAMESPACE":
		name = ""
	}
	switch {
	case name != "" && name != "istio-proxy":
		return name
	case labels["app"] != "":
		return labels["app"] + "." + namespace
	case workload != "":
		return workload + "." + namespace
	case namespace != "":
		return "istio-proxy." + namespace
	}
	return "istio-proxy"
}

// parseLocality reads REGION/ZONE/SUBZONE; nil for "".
func parseLocality(text string) *corev3.Locality {
	if text == "" {
		return nil
	}
	parts := append(strings.SplitN(text, "/", 3), "", "")
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}
