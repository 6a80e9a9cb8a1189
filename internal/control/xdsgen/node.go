package xdsgen

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// Bounds on what a node says of itself.
const (
	maxNodeID     = 1024
	maxNodeLabels = 256
	maxNodeLabel  = 1024
	maxAddresses  = 64
)

// generatorField of the metadata says what kind of resources a node wants: Istio's word.
const generatorField = "GENERATOR"

var errNode = errors.New("not a node in Istio's form")

// DecodeNode reads a node as Istio's proxies describe themselves: the id is
// "type~address~name.namespace~domain"; metadata has NAMESPACE, LABELS, INSTANCE_IPS,
// DNS_CAPTURE (what the ISTIO_META_ environment variables set) and GENERATOR.
func DecodeNode(n *corev3.Node) (mesh.Node, error) {
	id := n.GetId()
	if len(id) > maxNodeID {
		return mesh.Node{}, fmt.Errorf("%w: the id has %d bytes, at most %d are read", errNode, len(id), maxNodeID)
	}
	parts := strings.Split(id, "~")
	if len(parts) != 4 {
		return mesh.Node{}, fmt.Errorf("%w: id %q is not type~address~name.namespace~domain", errNode, id)
	}
	node := mesh.Node{ID: id, Type: mesh.NodeType(parts[0])}
	if node.Type != mesh.NodeSidecar && node.Type != mesh.NodeRouter {
		return mesh.Node{}, fmt.Errorf("%w: type %q in id %q", errNode, parts[0], id)
	}
	node.Name, node.Namespace, _ = strings.Cut(parts[2], ".")
	fields := n.GetMetadata().GetFields()
	if ns := fields["NAMESPACE"].GetStringValue(); ns != "" {
		node.Namespace = ns
	}
	if node.Namespace == "" {
		return mesh.Node{}, fmt.Errorf("%w: id %q has no namespace", errNode, id)
	}
	var err error
	if node.Locality, err = nodeLocality(n.GetLocality()); err != nil {
		return mesh.Node{}, err
	}
	if node.Labels, err = nodeLabels(fields["LABELS"].GetStructValue()); err != nil {
		return mesh.Node{}, err
	}
	if node.Type == mesh.NodeSidecar && fields[generatorField].GetStringValue() == string(mesh.NodeProxyless) {
		node.Type = mesh.NodeProxyless
	}
	node.Addresses, err = nodeAddresses(parts[1], fields["INSTANCE_IPS"].GetStringValue())
	node.DNSCapture = truth(fields["DNS_CAPTURE"])
	node.Unprivileged = truth(fields["UNPRIVILEGED_POD"])
	node.OnDemand = node.Type == mesh.NodeSidecar && truth(fields[xds.OnDemandMetadata])
	if node.SystemCA = fields[systemCAField].GetStringValue(); len(node.SystemCA) > maxNodeLabel {
		return mesh.Node{}, fmt.Errorf("%w: %s has more than %d bytes", errNode, systemCAField, maxNodeLabel)
	}
	if node.SystemCA == "" && n.GetUserAgentName() == "envoy" {
		node.SystemCA = envoySystemCA
	}
	return node, err
}

const (
	// systemCAField of the metadata is where a proxy says mesh.Node's SystemCA.
	systemCAField = "EGRET_SYSTEM_CA"
	// envoySystemCA is for an Envoy that does not say: the file of its images, and of
	// Debian and Alpine.
	envoySystemCA = "/etc/ssl/certs/ca-certificates.crt"
)

// nodeLocality is "region/zone/subzone", without what is not given at its end.
func nodeLocality(l *corev3.Locality) (string, error) {
	s := strings.TrimRight(l.GetRegion()+"/"+l.GetZone()+"/"+l.GetSubZone(), "/")
	if len(s) > maxNodeLabel {
		return "", fmt.Errorf("%w: the locality has more than %d bytes", errNode, maxNodeLabel)
	}
	return s, nil
}

func nodeLabels(s *structpb.Struct) (map[string]string, error) {
	if len(s.GetFields()) > maxNodeLabels {
		return nil, fmt.Errorf("%w: %d labels, at most %d are read", errNode, len(s.GetFields()), maxNodeLabels)
	}
	out := make(map[string]string, len(s.GetFields()))
	for k, v := range s.GetFields() {
		if len(k)+len(v.GetStringValue()) > maxNodeLabel {
			return nil, fmt.Errorf("%w: a label has more than %d bytes", errNode, maxNodeLabel)
		}
		out[k] = v.GetStringValue()
	}
	return out, nil
}

// nodeAddresses are those of the metadata, else the one of the id; "" is none.
func nodeAddresses(one, list string) ([]netip.Addr, error) {
	if list == "" {
		list = one
	}
	var out []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is not an address", errNode, s)
		}
		if len(out) == maxAddresses {
			return nil, fmt.Errorf("%w: more than %d addresses", errNode, maxAddresses)
		}
		out = append(out, a.Unmap().WithZone(""))
	}
	return out, nil
}

// truth reads metadata that is a boolean or its word.
func truth(v *structpb.Value) bool {
	return v.GetBoolValue() || strings.EqualFold(v.GetStringValue(), "true") || v.GetStringValue() == "1"
}

// EncodeNode is the inverse of DecodeNode, for proxies that are told who they are.
func EncodeNode(n mesh.Node, domain string) *corev3.Node {
	labels := make(map[string]*structpb.Value, len(n.Labels))
	for k, v := range n.Labels {
		labels[k] = structpb.NewStringValue(v)
	}
	addresses := make([]string, len(n.Addresses))
	for i, a := range n.Addresses {
		addresses[i] = a.String()
	}
	first := ""
	if len(addresses) > 0 {
		first = addresses[0]
	}
	fields := map[string]*structpb.Value{
		"NAMESPACE":    structpb.NewStringValue(n.Namespace),
		"LABELS":       structpb.NewStructValue(&structpb.Struct{Fields: labels}),
		"INSTANCE_IPS": structpb.NewStringValue(strings.Join(addresses, ",")),
	}
	if n.DNSCapture {
		fields["DNS_CAPTURE"] = structpb.NewStringValue("true")
	}
	if n.Unprivileged {
		fields["UNPRIVILEGED_POD"] = structpb.NewStringValue("true")
	}
	if n.SystemCA != "" {
		fields[systemCAField] = structpb.NewStringValue(n.SystemCA)
	}
	if n.OnDemand {
		fields[xds.OnDemandMetadata] = structpb.NewStringValue("true")
	}
	kind := n.Type
	if kind == mesh.NodeProxyless {
		kind, fields[generatorField] = mesh.NodeSidecar, structpb.NewStringValue(string(kind))
	}
	return &corev3.Node{
		Id: strings.Join([]string{
			string(kind), first, n.Name + "." + n.Namespace, n.Namespace + ".svc." + domain,
		}, "~"),
		Metadata: &structpb.Struct{Fields: fields},
	}
}
