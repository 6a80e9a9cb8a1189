package install

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Labels that say what is whose, as istioctl has them.
const (
	componentLabel = "operator.istio.io/component"
	managedLabel   = "operator.istio.io/managed"
	versionLabel   = "operator.istio.io/version"
	ownerLabel     = "install.operator.istio.io/owning-resource"
	ownerNSLabel   = "install.operator.istio.io/owning-resource-namespace"
	revisionLabel  = "istio.io/rev"
	managedByLabel = "app.kubernetes.io/managed-by"
	partOfLabel    = "app.kubernetes.io/part-of"
)

// Rendered is a release with its objects, in the order of their install.
type Rendered struct {
	Release
	Objects []*unstructured.Unstructured
}

// Render gives the objects of a plan.
func Render(ctx context.Context, p *Plan) ([]Rendered, error) {
	var out []Rendered
	for _, r := range p.Releases {
		objects, err := renderChart(ctx, p.charts, r, p.force)
		if err != nil {
			return nil, fmt.Errorf("chart %s: %w", r.Chart, err)
		}
		for _, o := range objects {
			p.own(o, r.Component)
		}
		if r.Component == "Pilot" {
			if err := checkMesh(objects); err != nil {
				return nil, err
			}
		}
		out = append(out, Rendered{r, objects})
	}
	return out, nil
}

// Owner is the value of the label that says which installation an object is of.
func Owner(revision string) string {
	if revision == "" {
		return "installed-state"
	}
	return "installed-state-" + revision
}

// own says on an object whose it is, so that an upgrade and an uninstall find it.
func (p *Plan) own(o *unstructured.Unstructured, component string) {
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, map[string]string{
		componentLabel: component, managedLabel: "Reconcile", versionLabel: imageTag(p.Version),
		ownerLabel: Owner(p.Revision), ownerNSLabel: p.Namespace,
		revisionLabel: cmp.Or(p.Revision, "default"), managedByLabel: "egret",
	})
	o.SetLabels(labels)
}

// renderChart refuses values that the chart's schema does not know, unless force is set.
func renderChart(ctx context.Context, charts fs.FS, r Release, force bool) ([]*unstructured.Unstructured, error) {
	c, err := loadChart(charts, r.Chart)
	if err != nil {
		return nil, err
	}
	options := common.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, IsInstall: true, Revision: 1}
	values, err := util.ToRenderValuesWithSchemaValidation(c, r.Values, options, nil, force)
	if err != nil {
		return nil, err
	}
	files, err := (engine.Engine{}).RenderWithContext(ctx, c, values)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".tpl") || path.Base(name) == "NOTES.txt" {
			continue
		}
		more, err := decode(files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, more...)
	}
	sortForInstall(objects)
	return objects, nil
}

// loadChart reads a chart with Helm's own loader.
func loadChart(charts fs.FS, name string) (*chart.Chart, error) {
	var files []*archive.BufferedFile
	err := fs.WalkDir(charts, name, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts, file)
		files = append(files, &archive.BufferedFile{Name: strings.TrimPrefix(file, name+"/"), Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return loader.LoadFiles(files)
}

// decode reads the documents of a rendered file.
func decode(text string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split("\n"+text, "\n---") {
		var content tree
		if err := yaml.UnmarshalStrict([]byte(doc), &content); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, doc)
		}
		if len(content) == 0 {
			continue
		}
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == "" || o.GetAPIVersion() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("no apiVersion, kind or name in:\n%s", doc)
		}
		out = append(out, o)
	}
	return out, nil
}

// installOrder is what must be there before what: an object is refused, or a pod does not
// start, without what it names. Kinds that are not here come last.
var installOrder = []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "Secret", "ConfigMap", "ClusterRole", "ClusterRoleBinding",
	"Role", "RoleBinding", "Service", "PodDisruptionBudget", "Deployment", "HorizontalPodAutoscaler",
	"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"}

func sortForInstall(objects []*unstructured.Unstructured) {
	rank := func(o *unstructured.Unstructured) int {
		if i := slices.Index(installOrder, o.GetKind()); i >= 0 {
			return i
		}
		return len(installOrder)
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// checkMesh judges MeshConfig with the rules that istiod has for it.
func checkMesh(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if !isMesh(o) {
			continue
		}
		same := o.DeepCopy()
		same.SetName("istio")
		same.SetNamespace("istio-system")
		text, err := yaml.Marshal(same.Object)
		if err != nil {
			return err
		}
		var bad []string
		_, problems := istioapi.Decode("meshConfig", text)
		for _, p := range problems {
			if p.Severity == istioapi.Error || p.Code == istioapi.CodeUnknownField {
				bad = append(bad, fmt.Sprintf("meshConfig.%s: %s", strings.TrimPrefix(strings.TrimPrefix(p.Field, "data.mesh"), "."), p.Message))
			}
		}
		if len(bad) > 0 {
			return fmt.Errorf("%s", strings.Join(bad, "\n"))
		}
	}
	return nil
}

// Manifest is the YAML of what was rendered, for kubectl apply.
func Manifest(all []Rendered) ([]byte, error) {
	var out bytes.Buffer
	for _, r := range all {
		for _, o := range r.Objects {
			text, err := yaml.Marshal(o.Object)
			if err != nil {
				return nil, err
			}
			out.WriteString("---\n")
			out.Write(text)
		}
	}
	return out.Bytes(), nil
}
