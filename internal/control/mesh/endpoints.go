package mesh

import (
	"fmt"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Port is the endpoint's port number for a service port: by name, else the
// service's target port, else its number. It is false when the endpoint does not
// serve the port.
func (e *Endpoint) Port(p Port) (uint32, bool) {
	if n, ok := e.Ports[p.Name]; ok && n != 0 {
		return n, true
	}
	switch {
	case e.Bound:
		return 0, false
	case p.TargetPort != 0:
		return p.TargetPort, true
	default:
		return p.Number, true
	}
}

// endpoints are those written in the entry, or the WorkloadEntries and pods that its
// workloadSelector selects in its namespace.
func (r *registry) endpoints(e *istioapi.ServiceEntry) []Endpoint {
	if selector := e.Spec.GetWorkloadSelector().GetLabels(); len(selector) > 0 {
		return r.selected(e.Namespace, selector, false)
	}
	if len(e.Spec.GetEndpoints()) == 0 {
		return nil
	}
	out := make([]Endpoint, 0, len(e.Spec.GetEndpoints()))
	for i, w := range e.Spec.GetEndpoints() {
		if strings.HasPrefix(w.GetAddress(), "unix:") {
			r.warn(&e.Meta, "unix_endpoint_not_supported", fmt.Sprintf("spec.endpoints[%d].address", i),
				fmt.Sprintf("%q is a socket of the file system: the endpoint is left out", w.GetAddress()))
			continue
		}
		out = append(out, endpointOf(w, w.GetLabels()))
	}
	return out
}

func endpointOf(w *networking.WorkloadEntry, labels map[string]string) Endpoint {
	_, said := labels[tlsModeLabel]
	return Endpoint{
		Address:        w.GetAddress(),
		Ports:          w.GetPorts(),
		Labels:         labels,
		Locality:       w.GetLocality(),
		Weight:         w.GetWeight(),
		Network:        w.GetNetwork(),
		ServiceAccount: w.GetServiceAccount(),
		// As in Istio who has an account is taken to have a proxy, unless the label says otherwise.
		MutualTLS: TakesTLS(labels) || !said && w.GetServiceAccount() != "",
	}
}

// workloadLabels are the object's labels, overridden by those of the spec, as in Istio.
func workloadLabels(w *istioapi.WorkloadEntry) map[string]string {
	if len(w.Labels) == 0 {
		return w.Spec.GetLabels()
	}
	labels := make(map[string]string, len(w.Labels)+len(w.Spec.GetLabels()))
	for k, v := range w.Labels {
		labels[k] = v
	}
	for k, v := range w.Spec.GetLabels() {
		labels[k] = v
	}
	return labels
}

// workload is what a selector may select.
type workload struct {
	endpoint Endpoint // with its labels
	pod      bool
}

// selected are the WorkloadEntries, and unless entriesOnly the pods, that a selector selects.
func (r *registry) selected(namespace string, selector map[string]string, entriesOnly bool) []Endpoint {
	if r.workloads == nil {
		r.indexWorkloads()
	}
	first := sortedKeys(selector)[0]
	var out []Endpoint
	for _, w := range r.workloads[namespace][first+"="+selector[first]] {
		if subset(selector, w.endpoint.Labels) && !(w.pod && entriesOnly) {
			out = append(out, w.endpoint)
		}
	}
	return out
}

func (r *registry) indexWorkloads() {
	r.workloads = map[string]map[string][]*workload{}
	add := func(namespace string, w *workload) {
		index := r.workloads[namespace]
		if index == nil {
			index = map[string][]*workload{}
			r.workloads[namespace] = index
		}
		for k, v := range w.endpoint.Labels {
			index[k+"="+v] = append(index[k+"="+v], w)
		}
	}
	for _, w := range byAge(r.objects.WorkloadEntries, func(w *istioapi.WorkloadEntry) *istioapi.Meta { return &w.Meta }) {
		add(w.Namespace, &workload{endpoint: endpointOf(w.Spec, workloadLabels(w))})
	}
	for _, e := range r.pods {
		add(e.Namespace, &workload{endpoint: e, pod: true})
	}
}
