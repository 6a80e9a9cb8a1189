package install_test

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/egret-mesh/egret/charts"
	"github.com/egret-mesh/egret/internal/cli/cluster/install"
	"github.com/egret-mesh/egret/internal/control/kube/kubetest"
	"github.com/egret-mesh/egret/internal/runtest"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// startAPIServer starts a real API server. Nothing makes service accounts, so pods need none.
func startAPIServer(t *testing.T) *kubetest.APIServer {
	t.Helper()
	return kubetest.StartAPIServer(t, "--disable-admission-plugins", "ServiceAccount")
}

// connect is the cluster as who has a token sees it.
func connect(t *testing.T, api *kubetest.APIServer, token string) *install.Cluster {
	t.Helper()
	config := api.Config(token)
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	known, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &install.Cluster{Dynamic: d, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(known))}
}

// TestOnAnAPIServer: what install applies is taken, an upgrade removes what it drops, keeps
// what istiod wrote, verify sees what is missing, and purge leaves nothing. No controller
// runs, so nothing gets ready.
func TestOnAnAPIServer(t *testing.T) {
	api := startAPIServer(t)
	c := connect(t, api, kubetest.Admin)
	ctx := context.Background()
	plan := func(sets ...string) (*install.Plan, []install.Rendered) {
		p, err := install.NewPlan(install.Request{Charts: charts.Files(), Version: "1", Sets: sets})
		if err != nil {
			t.Fatal(err)
		}
		return p, render(t, install.Request{Version: "1", Sets: sets})
	}
	p, all := plan("profile=demo")
	if err := c.Install(ctx, p, all, install.Options{}); err != nil {
		t.Fatal(err)
	}
	hooks := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	patch := []byte(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"YQ=="}]`)
	if _, err := c.Dynamic.Resource(hooks).Patch(ctx, "istio-sidecar-injector", "application/json-patch+json", patch, metav1.PatchOptions{FieldManager: "istiod"}); err != nil {
		t.Fatal(err)
	}
	verdicts(t, c, all, "is not what it should be: ", "")

	t.Run("not ready", func(t *testing.T) {
		err := c.Install(ctx, p, all, install.Options{Timeout: time.Second})
		if err == nil || !strings.Contains(err.Error(), "Deployment istio-system/istiod is not ready after 1s") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no rights", func(t *testing.T) {
		err := connect(t, api, kubetest.Nobody).Install(ctx, p, all, install.Options{})
		if err == nil || !strings.Contains(err.Error(), "cluster-admin") {
			t.Errorf("%v", err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		p, all := plan("profile=default")
		var told []string
		if err := c.Install(ctx, p, all, install.Options{Tell: func(p install.Progress) { told = append(told, p.Detail) }}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(told, "\n"), "Deployment istio-system/istio-egressgateway") {
			t.Errorf("the gateway that was dropped is not removed: %q", told)
		}
		o, err := c.Dynamic.Resource(hooks).Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		if ca, _, _ := unstructured.NestedString(list[0].(map[string]any), "clientConfig", "caBundle"); ca != "YQ==" {
			t.Errorf("the authority that istiod wrote is %q after the upgrade", ca)
		}
	})
	t.Run("verify", func(t *testing.T) {
		services := schema.GroupVersionResource{Version: "v1", Resource: "services"}
		if err := c.Dynamic.Resource(services).Namespace("istio-system").Delete(ctx, "istiod", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		_, all := plan("profile=default")
		verdicts(t, c, all, "Service istio-system/istiod", "is missing")
	})
	t.Run("purge", func(t *testing.T) {
		purged(t, c)
	})
}

func verdicts(t *testing.T, c *install.Cluster, all []install.Rendered, object, problem string) {
	t.Helper()
	out, err := c.Verify(context.Background(), all)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, v := range out {
		found = found || v.Object == object && v.Problem == problem
		if v.Problem != "" && v.Object != object && !strings.HasPrefix(v.Object, "Deployment") {
			t.Errorf("%s: %s", v.Object, v.Problem)
		}
	}
	if !found && problem != "" {
		t.Errorf("%s is not said to be %q: %v", object, problem, out)
	}
}

func purged(t *testing.T, c *install.Cluster) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	root := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "istio-ca-root-cert"}}}
	if _, err := c.Dynamic.Resource(maps).Namespace("default").Create(ctx, root, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// No controller finishes a namespace here, so the test does, as the one of Kubernetes would.
	done := make(chan error, 1)
	go func() { done <- c.Purge(ctx, "istio-system", install.Removal{Tell: func(string) {}}) }()
	runtest.Eventually(t, "purge ends", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
		}
		ns, err := c.Dynamic.Resource(namespaces).Get(ctx, "istio-system", metav1.GetOptions{})
		if err == nil && ns.GetDeletionTimestamp() != nil {
			unstructured.RemoveNestedField(ns.Object, "spec", "finalizers")
			_, _ = c.Dynamic.Resource(namespaces).Update(ctx, ns, metav1.UpdateOptions{}, "finalize") // asked again
		}
		return false
	})
	if _, err := c.Dynamic.Resource(maps).Namespace("default").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the root certificate is still in default: %v", err)
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	left, err := c.Dynamic.Resource(crds).List(ctx, metav1.ListOptions{})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("%d custom resource definitions are left, %v", len(left.Items), err)
	}
}
