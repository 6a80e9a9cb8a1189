package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// slice is what is kept of an EndpointSlice.
type slice struct {
	service   key
	family    string // "IPv4" or "IPv6"
	ports     map[string]uint32
	endpoints []endpoint
}

type endpoint struct {
	addresses []string
	pod       string // name, in the Service's namespace; "": none
	node      string
	hostname  string
	ready     bool
}

// sliceOf keeps of an EndpointSlice what the mesh asks for; nil where it is of no Service,
// or has names for addresses.
func sliceOf(m metav1.Object, _ *slice) *slice {
	s, ok := m.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelServiceName] == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	out := &slice{
		service: key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}, family: string(s.AddressType),
		ports: make(map[string]uint32, len(s.Ports)), endpoints: make([]endpoint, 0, len(s.Endpoints)),
	}
	for _, p := range s.Ports {
		if p.Port != nil {
			out.ports[value(p.Name)] = uint32(*p.Port)
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		kept := endpoint{
			addresses: addressesOf(e.Addresses), node: value(e.NodeName), hostname: value(e.Hostname),
			ready: e.Conditions.Ready == nil || *e.Conditions.Ready, // nil: not known, which counts as ready
		}
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			kept.pod = e.TargetRef.Name
		}
		out.endpoints = append(out.endpoints, kept)
	}
	return out
}

// addressesOf leaves out what is no address: the API server lets forms by that other
// readers refuse, and with them all endpoints of the Service (KEP-4858).
func addressesOf(all []string) (out []string) {
	for _, text := range all {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			out = append(out, a.String())
		}
	}
	return out
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// pod is what is kept of a Pod.
type pod struct {
	labels   map[string]string
	account  string
	node     string
	locality string // that its label says; "" is its node's
	// addresses it takes connections at; none while it is not ready, or ends.
	addresses []string
	// unprivileged: its proxy cannot listen on ports below 1024.
	unprivileged bool
}

// localityLabel overrides the locality of a pod's node, with "." for "/".
const localityLabel = "istio-locality"

// podOf keeps of a Pod what the mesh asks for. What else changes in its status is not there,
// so that it is no change.
func podOf(m metav1.Object, _ *pod) *pod {
	p, ok := m.(*corev1.Pod)
	if !ok {
		return nil
	}
	locality := p.Labels[localityLabel]
	if !strings.Contains(locality, "/") {
		locality = strings.ReplaceAll(locality, ".", "/")
	}
	out := &pod{
		labels: p.Labels, account: p.Spec.ServiceAccountName, node: p.Spec.NodeName, locality: locality, unprivileged: unprivileged(p),
	}
	if isReady(p) {
		for _, ip := range p.Status.PodIPs {
			out.addresses = append(out.addresses, ip.IP)
		}
	}
	return out
}

func isReady(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// workload is the pod as an endpoint that ServiceEntries may select, at its first address.
func (p *pod) workload(namespace string, at places) mesh.Endpoint {
	return mesh.Endpoint{
		Address: p.addresses[0], Namespace: namespace, Labels: p.labels, ServiceAccount: p.account,
		MutualTLS: mesh.TakesTLS(p.labels), Locality: cmp.Or(p.locality, at.locality(p.node)),
	}
}

// unprivileged is what a pod's proxy says of itself to the control plane.
func unprivileged(p *corev1.Pod) bool {
	for _, c := range p.Spec.Containers {
		if c.Name != "istio-proxy" {
			continue
		}
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "ISTIO_META_UNPRIVILEGED_POD" && e.Value == "true" })
	}
	return false
}

// subzoneLabel is Istio's, beside Kubernetes' labels for region and zone.
const subzoneLabel = "topology.istio.io/subzone"

// localityOf is a Node's locality: "region/zone/subzone", without what is not known.
func localityOf(m metav1.Object, _ string) string {
	labels := m.GetLabels()
	out := labels[corev1.LabelTopologyRegion] + "/" + labels[corev1.LabelTopologyZone] + "/" + labels[subzoneLabel]
	return strings.TrimRight(out, "/")
}

// places says where pods are.
type places interface {
	pod(k key) *pod // nil: not known
	locality(node string) string
}

// endpointsOf are the endpoints of a service that take connections, by address. One that
// is in two slices, as it is while it moves, counts once.
func endpointsOf(s *service, parts []*slice, at places) []mesh.Endpoint {
	var out []mesh.Endpoint
	seen := map[string][]map[string]uint32{}
	for _, part := range parts {
		if s.family != "" && part.family != s.family {
			continue
		}
		for i := range part.endpoints {
			e := &part.endpoints[i]
			if !e.ready && !s.notReady {
				continue
			}
			for _, a := range e.addresses {
				again := slices.ContainsFunc(seen[a], func(ports map[string]uint32) bool { return maps.Equal(ports, part.ports) })
				if again {
					continue
				}
				seen[a] = append(seen[a], part.ports)
				out = append(out, meshEndpoint(s.namespace, a, part.ports, e, at))
			}
		}
	}
	slices.SortFunc(out, func(a, b mesh.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), comparePorts(a.Ports, b.Ports))
	})
	return out
}

func comparePorts(a, b map[string]uint32) int {
	return slices.Compare(slices.Sorted(maps.Values(a)), slices.Sorted(maps.Values(b)))
}

func meshEndpoint(namespace, address string, ports map[string]uint32, e *endpoint, at places) mesh.Endpoint {
	out := mesh.Endpoint{Address: address, Ports: ports, Hostname: e.hostname, Namespace: namespace, Bound: true}
	node := e.node
	if e.pod != "" {
		if p := at.pod(key{namespace, e.pod}); p != nil {
			out.Labels, out.ServiceAccount, out.Locality, out.Unprivileged = p.labels, p.account, p.locality, p.unprivileged
			out.MutualTLS = mesh.TakesTLS(p.labels)
			node = cmp.Or(node, p.node)
		}
	}
	out.Locality = cmp.Or(out.Locality, at.locality(node))
	return out
}
