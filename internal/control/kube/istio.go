package kube

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// istioResources are Istio's resources that Egret reads, in the version that they are
// asked for in; the API server converts.
var istioResources = []schema.GroupVersionResource{
	{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
	{Group: "networking.istio.io", Version: "v1", Resource: "gateways"},
	{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"},
	{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"},
	{Group: "networking.istio.io", Version: "v1", Resource: "sidecars"},
	{Group: "networking.istio.io", Version: "v1", Resource: "workloadentries"},
	{Group: "security.istio.io", Version: "v1", Resource: "peerauthentications"},
	{Group: "telemetry.istio.io", Version: "v1", Resource: "telemetries"},
}

// toldResources are Istio's resources that Egret does not read and somebody may rely on: that
// one has no effect is told.
var toldResources = []schema.GroupVersionResource{
	{Group: "security.istio.io", Version: "v1", Resource: "authorizationpolicies"},
	{Group: "security.istio.io", Version: "v1", Resource: "requestauthentications"},
	{Group: "networking.istio.io", Version: "v1alpha3", Resource: "envoyfilters"},
}

// Resources are all of Istio's that a Cluster follows.
func Resources() []schema.GroupVersionResource { return slices.Concat(istioResources, toldResources) }

// item is what is kept of an object of Istio's.
type item struct {
	object     istioapi.Object // nil: there is no good version
	problems   []istioapi.Problem
	generation int64
	status     map[string]any // as it is written now
	uid        types.UID
}

// istioObjects are the objects that istioapi reads.
type istioObjects struct {
	cluster *Cluster
	tables  []*table[item]
	kinds   []*follow

	mu       sync.Mutex // guards what follows
	stale    bool       // what follows is not what the tables have
	objects  istioapi.Objects
	problems []istioapi.Problem
}

func newIstioObjects(c *Cluster) *istioObjects {
	s := &istioObjects{cluster: c, stale: true}
	for _, r := range istioResources {
		f := newFollow(r.GroupResource().String(), c.options.Dynamic, c.options.Dynamic.Resource(r), "", s.table(itemOf))
		f.optional = true
		s.kinds = append(s.kinds, f)
	}
	for _, r := range toldResources {
		f := newFollow(r.GroupResource().String(), c.options.Dynamic, c.options.Dynamic.Resource(r), "", s.table(itemOf))
		f.optional, f.unread = true, true
		s.kinds = append(s.kinds, f)
	}
	client, name := c.options.Client, c.options.meshConfigMap()
	s.kinds = append(s.kinds,
		newFollow("namespaces", client, client.CoreV1().Namespaces(), "", s.table(namespaceItem)),
		newFollow("configmaps", client, client.CoreV1().ConfigMaps(c.options.SystemNamespace), "metadata.name="+name, s.table(meshItem(name))))
	return s
}

// meshConfigMap is the name of the ConfigMap that has MeshConfig.
func (o Options) meshConfigMap() string {
	if o.Revision == "" || o.Revision == "default" {
		return "istio"
	}
	return "istio-" + o.Revision
}

func (s *istioObjects) table(made func(metav1.Object, item) item) *table[item] {
	t := &table[item]{made: made, same: sameItem, changed: func(key, item, item) {
		s.mu.Lock()
		s.stale = true
		s.mu.Unlock()
		s.cluster.changed()
	}}
	s.tables = append(s.tables, t)
	return t
}

func (s *istioObjects) follows() []*follow { return s.kinds }

// all are the objects in Istio's order, and what is wrong with any. They are the same as
// before where nothing changed.
func (s *istioObjects) all() (istioapi.Objects, []istioapi.Problem) {
	s.mu.Lock()
	was := s.stale
	s.stale = false // before reading: what changes from here on is for the next time
	objects, problems := s.objects, s.problems
	s.mu.Unlock()
	if !was {
		return objects, problems
	}
	var list []istioapi.Object
	problems = nil
	for _, t := range s.tables {
		t.each(func(_ key, i item) {
			if i.object != nil {
				list = append(list, i.object)
			}
			problems = append(problems, i.problems...)
		})
	}
	objects = inOrder(list)
	slices.SortStableFunc(problems, func(a, b istioapi.Problem) int {
		return cmp.Or(cmp.Compare(a.Object.Kind, b.Object.Kind), cmp.Compare(a.Object.Namespace, b.Object.Namespace),
			cmp.Compare(a.Object.Name, b.Object.Name))
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects, s.problems = objects, problems
	return objects, problems
}

// inOrder puts objects into the order that the mesh looks at them: the oldest first.
func inOrder(list []istioapi.Object) istioapi.Objects {
	slices.SortFunc(list, func(a, b istioapi.Object) int {
		x, y := a.Common(), b.Common()
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	var objects istioapi.Objects
	for _, o := range list {
		objects.Add(o)
	}
	return objects
}

// sameItem says that nothing follows from the change: a status was written, or the like.
func sameItem(a, b item) bool {
	return a.object == b.object && slices.Equal(a.problems, b.problems)
}

// itemOf decodes an object of Istio's.
func itemOf(m metav1.Object, last item) item {
	u, ok := m.(*unstructured.Unstructured)
	if !ok {
		return last
	}
	next := last
	if !last.written(m) {
		object, problems := istioapi.FromCluster(u.Object)
		for i := range problems { // of an object that is not read it is not known
			problems[i].Object.Namespace = cmp.Or(problems[i].Object.Namespace, m.GetNamespace())
		}
		next = newItem(m, object, problems, last)
	}
	next.status, _, _ = unstructured.NestedMap(u.Object, "status")
	return next
}

// written says that nobody wrote to the object since: it got another status, or the like.
func (i item) written(m metav1.Object) bool {
	return i.object != nil && i.generation != 0 && i.generation == m.GetGeneration() &&
		i.uid == m.GetUID() && maps.Equal(i.object.Common().Labels, m.GetLabels())
}

// meshItem decodes the MeshConfig of the ConfigMap with this name.
func meshItem(name string) func(metav1.Object, item) item {
	return func(m metav1.Object, last item) item {
		c, ok := m.(*corev1.ConfigMap)
		if !ok || c.Name != name {
			return last
		}
		object, problems := decodeMesh(c)
		return newItem(m, object, problems, last)
	}
}

// namespaceItem keeps of a Namespace what the mesh asks for.
func namespaceItem(m metav1.Object, _ item) item {
	return item{object: &istioapi.Namespace{Meta: istioapi.Meta{
		Ref: istioapi.Ref{Kind: "Namespace", Name: m.GetName()}, APIVersion: "v1",
		Labels: m.GetLabels(), Annotations: m.GetAnnotations(), Created: m.GetCreationTimestamp().Time,
	}}}
}

const staysInForce = "; the last good version stays in force"

// newItem keeps the last good version of an object that is not good now.
func newItem(m metav1.Object, object istioapi.Object, problems []istioapi.Problem, last item) item {
	if object == nil && last.object != nil && last.uid == m.GetUID() {
		object = last.object
		for i := range problems {
			if problems[i].Severity == istioapi.Error {
				problems[i].Message += staysInForce
			}
		}
	}
	return item{object: object, problems: problems, generation: m.GetGeneration(), uid: m.GetUID()}
}
