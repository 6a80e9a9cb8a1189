package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/explain"
)

// explainPod says what the mesh decides for a call of a pod, by what the cluster has now.
func (c *clients) explainPod(ctx context.Context, pod *corev1.Pod, istioNamespace string, call explain.Call) (explain.Result, error) {
	proxy := proxyOf(pod)
	if proxy == nil {
		return explain.Result{Call: call.String(), Verdict: "allowed", Hint: "pod " + fullName(pod) + " has no sidecar (no container " + proxyContainer +
			"): the mesh decides nothing for it, and its calls leave as they are; pods get a sidecar when they are made, in a namespace with the label istio-injection=enabled"}, nil
	}
	node, err := nodeOf(pod)
	if err != nil {
		return explain.Result{}, fmt.Errorf("pod %s: %w", fullName(pod), err)
	}
	if node.Type != mesh.NodeSidecar {
		return explain.Result{}, fmt.Errorf("pod %s is a gateway, which has no calls of its own: name a pod whose calls go through it", fullName(pod))
	}
	world, err := c.read(ctx, kube.Options{SystemNamespace: istioNamespace, Revision: pod.Annotations["istio.io/rev"], Domain: domainOf(proxy)})
	if err != nil {
		return explain.Result{}, err
	}
	objects := world.Current().Objects
	snapshot, _ := mesh.New(objects, world.Mesh(objects)) // its problems are analyze's to tell
	captured, err := captureOf(pod)
	if err != nil {
		return explain.Result{}, fmt.Errorf("pod %s: %w", fullName(pod), err)
	}
	return explain.Explain(explain.Mesh{
		Snapshot: snapshot,
		Caller:   explain.Node{Node: node, Title: "sidecar of " + fullName(pod)},
		Gateway:  func(at netip.AddrPort) (*explain.Node, error) { return c.gateway(ctx, at.Addr()) },
		PassesBy: captured.passesBy,
		Search:   searchOf(pod, snapshot.Domain()),
	}, call)
}

// gateway is the gateway that has an address; nil where none has it.
func (c *clients) gateway(ctx context.Context, at netip.Addr) (*explain.Node, error) {
	list, err := c.typed.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("status.podIP", at.String()).String()})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		pod := &list.Items[i]
		has := slices.ContainsFunc(pod.Status.PodIPs, func(a corev1.PodIP) bool { return a.IP == at.String() })
		if !has || proxyOf(pod) == nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		node, err := nodeOf(pod)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", fullName(pod), err)
		}
		if node.Type == mesh.NodeRouter {
			return &explain.Node{Node: node, Title: "gateway " + fullName(pod)}, nil
		}
	}
	return nil, nil
}

// nodeOf is who the proxy of a pod says that it is: what internal/agent makes of the container
// that injection wrote, as far as it is decided before the container runs.
func nodeOf(pod *corev1.Pod) (mesh.Node, error) {
	proxy := proxyOf(pod)
	role := ""
	if i := slices.Index(proxy.Args, "proxy"); i >= 0 && i+1 < len(proxy.Args) {
		role = proxy.Args[i+1]
	}
	metadata := map[string]any{}
	for _, e := range proxy.Env {
		if name, ok := strings.CutPrefix(e.Name, "ISTIO_META_"); ok && e.ValueFrom == nil {
			metadata[name] = e.Value
		}
	}
	labels := map[string]any{}
	for k, v := range pod.Labels {
		if k != "pod-template-hash" {
			labels[k] = v
		}
	}
	var addresses []string
	for _, a := range pod.Status.PodIPs {
		addresses = append(addresses, a.IP)
	}
	metadata["LABELS"], metadata["NAMESPACE"], metadata["INSTANCE_IPS"] = labels, pod.Namespace, strings.Join(addresses, ",")
	text, err := structpb.NewStruct(metadata)
	if err != nil {
		return mesh.Node{}, err
	}
	id := strings.Join([]string{role, pod.Status.PodIP, fullName(pod), pod.Namespace + ".svc." + cmp.Or(domainOf(proxy), "cluster.local")}, "~")
	node, err := xdsgen.DecodeNode(&corev3.Node{Id: id, Metadata: text})
	node.OnDemand = false // all that it may ask for
	return node, err
}

// domainOf is the cluster's domain, by a proxy's argument --domain NAMESPACE.svc.DOMAIN; "" where
// it is not said.
func domainOf(proxy *corev1.Container) string {
	for i, arg := range proxy.Args {
		value, joined := strings.CutPrefix(arg, "--domain=")
		if arg == "--domain" && i+1 < len(proxy.Args) {
			value, joined = proxy.Args[i+1], true
		}
		if _, domain, ok := strings.Cut(value, ".svc."); ok && joined {
			return domain
		}
	}
	return ""
}

// searchOf are the domains that a pod's resolver tries (what the kubelet writes to resolv.conf),
// but for those of its machine.
func searchOf(pod *corev1.Pod, domain string) (out []string) {
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirstWithHostNet || policy == corev1.DNSClusterFirst && !pod.Spec.HostNetwork || policy == "" {
		out = []string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		out = append(out, c.Searches...)
	}
	return out
}
