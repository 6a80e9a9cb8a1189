package kube

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// exportToAnnotation says which namespaces see a Service, as exportTo of a ServiceEntry.
const exportToAnnotation = "networking.istio.io/exportTo"

// service is what is kept of a Service.
type service struct {
	key
	created      time.Time
	ports        []mesh.Port
	selector     map[string]string
	addresses    []netip.Prefix
	family       string // "IPv4" or "IPv6", of the endpoints that count
	headless     bool
	externalName string
	notReady     bool // spec.publishNotReadyAddresses
	exportTo     []string
}

// serviceOf keeps of a Service what the mesh asks for.
func serviceOf(m metav1.Object, _ *service) *service {
	s, ok := m.(*corev1.Service)
	if !ok {
		return nil
	}
	out := &service{
		key: key{s.Namespace, s.Name}, created: s.CreationTimestamp.Time, selector: s.Spec.Selector,
		headless: s.Spec.ClusterIP == corev1.ClusterIPNone, notReady: s.Spec.PublishNotReadyAddresses,
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.externalName, out.selector, out.headless = s.Spec.ExternalName, nil, false
	}
	if len(s.Spec.IPFamilies) > 0 {
		out.family = string(s.Spec.IPFamilies[0])
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && s.Spec.Type != corev1.ServiceTypeExternalName {
			out.addresses = append(out.addresses, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for i := range s.Spec.Ports {
		out.ports = append(out.ports, portOf(&s.Spec.Ports[i]))
	}
	for host := range strings.SplitSeq(s.Annotations[exportToAnnotation], ",") {
		if host = strings.TrimSpace(host); host != "" {
			out.exportTo = append(out.exportTo, host)
		}
	}
	return out
}

func portOf(p *corev1.ServicePort) mesh.Port {
	app := ""
	if p.AppProtocol != nil {
		app = *p.AppProtocol
	}
	out := mesh.Port{Number: uint32(p.Port), TargetPort: uint32(p.TargetPort.IntVal), Name: p.Name}
	out.Protocol, out.Declared = mesh.ServiceProtocol(string(p.Protocol), app, p.Name, out.Number)
	return out
}

// meshService is the service as the mesh has it.
func meshService(s *service, domain string, endpoints []mesh.Endpoint) *mesh.Service {
	m := &mesh.Service{
		Host: s.name + "." + s.namespace + ".svc." + domain, Namespace: s.namespace,
		Registry: mesh.RegistryKubernetes, Headless: s.headless, ExternalName: s.externalName,
		Selector: s.selector, Source: istioapi.Ref{Kind: "Service", Namespace: s.namespace, Name: s.name},
		Ports: s.ports, Resolution: mesh.ResolutionStatic, Addresses: s.addresses, Endpoints: endpoints,
		Internal: true, ExportTo: s.exportTo,
	}
	if s.externalName != "" {
		m.Resolution = mesh.ResolutionDNS
	}
	return m
}
