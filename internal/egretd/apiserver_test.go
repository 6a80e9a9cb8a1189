package egretd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/control/kube/kubetest"
	"github.com/egret-mesh/egret/internal/runtest"
)

// apiServer is a real kube-apiserver, and what tests do with it.
type apiServer struct {
	*kubetest.APIServer
	t       *testing.T
	config  *rest.Config
	dynamic dynamic.Interface
}

// startAPIServer starts one, and ends it with the test.
func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{t: t, APIServer: kubetest.StartAPIServer(t)}
	a.config = a.Config(kubetest.Admin)
	var err error
	if a.dynamic, err = dynamic.NewForConfig(a.config); err != nil {
		t.Fatal(err)
	}
	return a
}

// istioKinds are those that the control plane reads: kind -> plural and group.
var istioKinds = map[string][2]string{
	"ServiceEntry": {"serviceentries", "networking.istio.io"}, "Gateway": {"gateways", "networking.istio.io"},
	"VirtualService": {"virtualservices", "networking.istio.io"}, "DestinationRule": {"destinationrules", "networking.istio.io"},
	"Sidecar": {"sidecars", "networking.istio.io"}, "WorkloadEntry": {"workloadentries", "networking.istio.io"},
	"PeerAuthentication": {"peerauthentications", "security.istio.io"},
	"Telemetry":          {"telemetries", "telemetry.istio.io"},
}

// define installs a CustomResourceDefinition for a kind, with no schema to speak of.
func (a *apiServer) define(kind string) {
	a.t.Helper()
	plural, group := istioKinds[kind][0], istioKinds[kind][1]
	a.apply(fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.%[2]s}
spec:
  group: %[2]s
  scope: Namespaced
  names: {kind: %[3]s, plural: %[1]s, singular: %[4]s, listKind: %[3]sList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, plural, group, kind, strings.ToLower(kind)))
}

// apply makes objects what the YAML says.
func (a *apiServer) apply(text string) {
	a.t.Helper()
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			a.t.Fatal(err)
		}
		runtest.Eventually(a.t, "applied: "+u.GetKind()+" "+u.GetName(), func() bool {
			_, err := a.resource(u).Apply(context.Background(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true})
			if err != nil && !apierrors.IsNotFound(err) { // a CRD is served a moment later
				a.t.Fatal(err)
			}
			return err == nil
		})
	}
}

func (a *apiServer) remove(kind, namespace, name string) {
	a.t.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(istioKinds[kind][1] + "/v1")
	u.SetKind(kind)
	u.SetNamespace(namespace)
	if err := a.resource(u).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// reconciled is the status and the generation of the condition of a ServiceEntry.
func (a *apiServer) reconciled(namespace, name string) string {
	a.t.Helper()
	r := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
	u, err := a.dynamic.Resource(r).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if len(list) == 0 {
		return ""
	}
	c, _ := list[0].(map[string]any)
	return fmt.Sprint(c["status"], " ", c["observedGeneration"])
}

func (a *apiServer) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	gvk := u.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	if k, ok := istioKinds[gvk.Kind]; ok {
		plural = k[0]
	}
	r := a.dynamic.Resource(gvk.GroupVersion().WithResource(plural))
	if u.GetNamespace() == "" {
		return r
	}
	return r.Namespace(u.GetNamespace())
}
