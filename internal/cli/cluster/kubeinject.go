package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	meshconfig "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/egret-mesh/egret/internal/control/inject"
	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// injectFlags are those of kube-inject, by Istio's names.
type injectFlags struct {
	file, output, namespace, revision string
	// Files in the place of the cluster's ConfigMaps.
	configFile, valuesFile, meshFile string
}

func kubeInjectCommand(f *flags) *cobra.Command {
	var o injectFlags
	cmd := &cobra.Command{
		Use: "kube-inject -f FILE [flags]", Short: "Put the proxy into the pods of YAML files",
		Long: `Copies YAML to standard output, or -o, with the proxy in all that makes pods: Pods,
Deployments, Jobs and the like. For namespaces whose pods the webhook does not inject.

Templates, values and MeshConfig are those of the cluster, unless files say them.`,
		Example: fmt.Sprintf("  %s kube-inject -f deployment.yaml | kubectl apply -f -", f.name),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runKubeInject(cmd.Context(), f, o) },
	}
	p := cmd.Flags()
	p.StringVarP(&o.file, "filename", "f", "", "`file` to read; \"-\" is standard input")
	p.StringVarP(&o.output, "output", "o", "", "`file` to write; \"\": standard output")
	p.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of objects that name none")
	p.StringVarP(&o.revision, "revision", "r", "", "`revision` of the control plane")
	p.StringVar(&o.configFile, "injectConfigFile", "", "`file` with the templates: key config of the ConfigMap istio-sidecar-injector")
	p.StringVar(&o.valuesFile, "valuesFile", "", "`file` with the values: key values of that ConfigMap")
	p.StringVar(&o.meshFile, "meshConfigFile", "", "`file` with MeshConfig: key mesh of the ConfigMap istio")
	return cmd
}

func runKubeInject(ctx context.Context, f *flags, o injectFlags) error {
	if o.file == "" {
		return errors.New("kube-inject: -f FILE says what to read")
	}
	in, err := o.injector(ctx, f)
	if err != nil {
		return fmt.Errorf("kube-inject: %w", err)
	}
	text, err := readFile(o.file, f.streams.In)
	if err != nil {
		return fmt.Errorf("kube-inject: %w", err)
	}
	var out bytes.Buffer // all or nothing
	tell := func(object, what string) { fmt.Fprintf(f.streams.Err, "%s: %s\n", object, what) }
	if err := in.InjectFile(bytes.NewReader(text), &out, inject.File{Namespace: o.namespace, Tell: tell}); err != nil {
		return fmt.Errorf("kube-inject: %s: %w", o.file, err)
	}
	if o.output != "" {
		return os.WriteFile(o.output, out.Bytes(), 0o644)
	}
	_, err = out.WriteTo(f.streams.Out)
	return err
}

// injector is what the webhook of the cluster would use, but for what files say.
func (o injectFlags) injector(ctx context.Context, f *flags) (*inject.Injector, error) {
	var errs []error
	read := func(name string) string {
		if name == "" {
			return ""
		}
		text, err := os.ReadFile(name)
		errs = append(errs, err)
		return string(text)
	}
	options := inject.Options{Config: read(o.configFile), Values: read(o.valuesFile), Revision: o.revision}
	meshText := read(o.meshFile)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.configFile == "" || o.valuesFile == "" || o.meshFile == "" {
		c, err := f.connect(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w; --injectConfigFile, --valuesFile and --meshConfigFile are for where there is none", err)
		}
		suffix := ""
		if o.revision != "" && o.revision != "default" {
			suffix = "-" + o.revision
		}
		maps := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(f.istioNamespace)
		for _, one := range []struct {
			file, name, key string
			to              *string
		}{
			{o.configFile, "istio-sidecar-injector", "config", &options.Config}, {o.valuesFile, "istio-sidecar-injector", "values", &options.Values},
			{o.meshFile, "istio", "mesh", &meshText},
		} {
			if one.file != "" {
				continue
			}
			m, err := maps.Get(ctx, one.name+suffix, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("the ConfigMap %s: %w", one.name+suffix, err)
			}
			*one.to, _, _ = unstructured.NestedString(m.Object, "data", one.key)
		}
	}
	var err error
	if options.Mesh, err = readMesh(meshText); err != nil {
		return nil, err
	}
	return inject.New(options)
}

// readMesh reads MeshConfig as the control plane does.
func readMesh(text string) (*meshconfig.MeshConfig, error) {
	object, problems := istioapi.MeshFromCluster(text)
	for _, p := range problems {
		if p.Severity == istioapi.Error {
			return nil, fmt.Errorf("MeshConfig: %s: %s", p.Field, p.Message)
		}
	}
	mesh, ok := object.(*istioapi.MeshConfig)
	if !ok {
		return nil, nil
	}
	return mesh.Spec, nil
}
