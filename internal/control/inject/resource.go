package inject

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxFile bounds what InjectFile reads, in bytes, and maxNesting how deep lists are in lists.
const (
	maxFile    = 64 << 20
	maxNesting = 4
)

// templatePaths are where objects that make pods have the pod: metadata and spec below.
var templatePaths = map[string][]string{
	"Pod": {}, "Deployment": {"spec", "template"}, "DaemonSet": {"spec", "template"}, "StatefulSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "DeploymentConfig": {"spec", "template"},
	"Job": {"spec", "template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// File are the settings of InjectFile.
type File struct {
	// Namespace of objects that name none.
	Namespace string
	// Tell is told what people should know: who gets no proxy and why, and warnings.
	Tell func(object, what string)
}

// InjectFile copies YAML, and puts the proxy into all that makes pods: Pods, Deployments,
// Jobs and the like, also in Lists. Other objects are copied as they are. Its errors name
// the object.
func (in *Injector) InjectFile(r io.Reader, w io.Writer, f File) error {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("over %d bytes", maxFile)
	}
	documents := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for written := 0; ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := in.document(document, f)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(out)) == 0 {
			continue
		}
		if written++; written > 1 {
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
}

// document gives a document back as it is written when nothing of it changes.
func (in *Injector) document(text []byte, f File) ([]byte, error) {
	var object map[string]any
	if err := yaml.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	changed, err := in.object(object, f, 0)
	if err != nil || !changed {
		return text, err
	}
	return yaml.Marshal(object)
}

// object changes an object in place, and says whether it did.
func (in *Injector) object(object map[string]any, f File, depth int) (changed bool, err error) {
	kind, _ := object["kind"].(string)
	if items, ok := object["items"].([]any); ok && depth < maxNesting {
		for _, item := range elements(items) {
			one, err := in.object(item, f, depth+1)
			if err != nil {
				return false, err
			}
			changed = changed || one
		}
		return changed, nil
	}
	path, ok := templatePaths[kind]
	if !ok {
		return false, nil
	}
	metadata := child(object, "metadata")
	name, _ := metadata["name"].(string)
	version, _ := object["apiVersion"].(string)
	title := kind + " " + name
	pod := object
	for _, step := range path {
		if pod, ok = pod[step].(map[string]any); !ok {
			return false, fmt.Errorf("%s: there is no %s", title, step)
		}
	}
	request := Request{Namespace: f.Namespace}
	if namespace, _ := metadata["namespace"].(string); namespace != "" {
		request.Namespace = namespace
	}
	if len(path) > 0 {
		request.Workload = &Workload{Kind: kind, APIVersion: version, Name: name}
	}
	if request.Pod, err = json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": pod["spec"]}); err != nil {
		return false, fmt.Errorf("%s: %w", title, err)
	}
	result, err := in.Inject(request)
	if err != nil {
		return false, fmt.Errorf("%s: %w", title, err)
	}
	for _, warning := range result.Warnings {
		f.Tell(title, warning)
	}
	if result.Skipped != "" {
		f.Tell(title, "gets no proxy: "+result.Skipped)
	}
	if result.Patch == nil {
		return false, nil
	}
	var after map[string]any
	if err := json.Unmarshal(result.Pod, &after); err != nil {
		return false, err
	}
	pod["metadata"], pod["spec"] = after["metadata"], after["spec"]
	return true, nil
}
