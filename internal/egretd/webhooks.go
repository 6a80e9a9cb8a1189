package egretd

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/egret-mesh/egret/internal/control/inject"
	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// admission answers what the API server asks about pods and about Istio's objects.
type admission struct {
	*cluster
	handler *inject.Handler
}

func newAdmission(c *cluster) *admission {
	return &admission{cluster: c, handler: inject.NewHandler(c.log)}
}

// mux has the paths of Istio's webhooks.
func (a *admission) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", a.handler)
	return mux
}

// injectorName is the ConfigMap with the templates.
func (a *admission) injectorName() string {
	if r := a.options.Revision; r != "default" {
		return "istio-sidecar-injector-" + r
	}
	return "istio-sidecar-injector"
}

// run keeps the injector at what the cluster says, until ctx ends. What cannot be used is
// told, and the one before stays in force.
func (a *admission) run(ctx context.Context) error {
	templates := make(chan *corev1.ConfigMap, 1)
	go a.follow(ctx, templates)
	states, stop := a.world.Subscribe()
	defer stop()
	var config *corev1.ConfigMap
	var mesh *istioapi.MeshConfig
	for {
		select {
		case <-ctx.Done():
			return nil
		case config = <-templates:
		case s := <-states:
			if s.Objects.MeshConfig == mesh && a.handler.Ready() {
				continue
			}
			mesh = s.Objects.MeshConfig
		}
		if config != nil && a.known() {
			a.use(config, mesh)
		}
	}
}

// known: before the cluster is known its MeshConfig is not, and a pod that is injected
// now would have another for all of its life.
func (a *admission) known() bool {
	select {
	case <-a.world.Synced():
		return true
	default:
		return false
	}
}

func (a *admission) use(config *corev1.ConfigMap, mesh *istioapi.MeshConfig) {
	o := inject.Options{Config: config.Data["config"], Values: config.Data["values"], Revision: a.options.Revision}
	if mesh != nil {
		o.Mesh = mesh.Spec
	}
	in, err := inject.New(o)
	if err != nil {
		a.log.Error("the configuration of injection cannot be used; what was there before stays in force", "configmap", config.Name, "error", err)
		return
	}
	a.handler.Use(in)
	a.log.Info("pods are injected by this configuration", "configmap", config.Name, "version", config.ResourceVersion)
}

// follow sends the ConfigMap each time it changes; a reader that is slow gets the newest.
func (a *admission) follow(ctx context.Context, to chan *corev1.ConfigMap) {
	maps := a.client.CoreV1().ConfigMaps(a.options.Namespace)
	only := "metadata.name=" + a.injectorName()
	send := func(object any) {
		m, ok := object.(*corev1.ConfigMap)
		if !ok || m.Name != a.injectorName() {
			return
		}
		select {
		case <-to:
		default:
		}
		to <- m
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = only
				return maps.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				return maps.Watch(ctx, o)
			},
		}, a.client),
		ObjectType: &corev1.ConfigMap{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: send, UpdateFunc: func(_, object any) { send(object) },
			DeleteFunc: func(any) {
				a.log.Error("the ConfigMap of injection is gone; what it said stays in force", "configmap", a.injectorName())
			},
		},
	})
	informer.RunWithContext(ctx)
}

// What the webhooks did, by Istio's names.
var admissionDescs = map[inject.Count]*prometheus.Desc{
	inject.Injected:     prometheus.NewDesc("sidecar_injection_success_total", "Pods that got a proxy.", nil, nil),
	inject.Skipped:      prometheus.NewDesc("sidecar_injection_skip_total", "Pods that got none, by what they or the configuration say.", nil, nil),
	inject.InjectFailed: prometheus.NewDesc("sidecar_injection_failure_total", "Pods that were refused.", nil, nil),
	inject.Valid:        prometheus.NewDesc("galley_validation_passed", "Objects that were found good.", nil, nil),
	inject.Invalid:      prometheus.NewDesc("galley_validation_failed", "Objects that were refused.", nil, nil),
}

// Describe implements prometheus.Collector.
func (a *admission) Describe(out chan<- *prometheus.Desc) {
	for _, d := range admissionDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (a *admission) Collect(out chan<- prometheus.Metric) {
	for c, d := range admissionDescs {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(a.handler.Counted(c)))
	}
}
