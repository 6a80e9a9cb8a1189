package istioapi

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// MaxFileSize is the largest file that is read, in bytes.
const MaxFileSize = 32 << 20

// maxProblems bounds what is told about one file.
const maxProblems = 1000

// Decode reads the objects of one file: YAML with any number of documents, JSON,
// and lists (kind: List). file is its name, for positions only. An object with an
// Error is not among the objects, the others are; each is validated (see Validate).
// Objects have Order by their place in the file, beginning with 0.
//
// It never fails as a whole: what cannot be read is told as problems.
func Decode(file string, data []byte) (Objects, []Problem) { return Rules{}.Decode(file, data) }

// decode is Decode, with what the reader kept when there is one.
func decode(file string, data []byte, rules Rules, r *Reader) (Objects, []Problem) {
	d := &decoder{file: file, rules: rules, unknown: Error, budget: len(data) + 100_000, paths: map[string]string{}}
	if len(data) > MaxFileSize {
		d.report(Error, CodeTooLarge, "", 0, "the file has %d bytes; at most %d are read", len(data), MaxFileSize)
		return Objects{}, d.problems
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		d.report(Error, CodeSyntax, "", 1, "the file is UTF-16; save it as UTF-8")
		return Objects{}, d.problems
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) > 0 && (first[0] == '{' || first[0] == '[') {
		// JSON may be indented with tabs, YAML not; inside JSON's strings there are none.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	var kept, next map[[sha256.Size]byte]keptDocument
	if r != nil {
		kept, next = r.kept, make(map[[sha256.Size]byte]keptDocument, len(r.kept))
		r.kept = next
	}
	for _, c := range split(data) {
		d.chunk(c, kept, next)
	}
	objects, duplicates := Unique(slices.Values(d.objects))
	return objects, append(d.problems, duplicates...)
}

// decoder holds what is known while one file is read.
type decoder struct {
	file      string
	rules     Rules
	offset    int // added to the lines of nodes
	fixed     int // when not 0, the line of every node (text inside a quoted string)
	budget    int // nodes that may still be visited
	exhausted bool
	unknown   Severity // of unknown fields
	prefix    string   // of paths, for text inside a string

	paths    map[string]string
	meta     Meta // of the object being read
	failed   bool // it has an Error
	objects  []Object
	problems []Problem
}

func (d *decoder) line(n *yaml.Node) int {
	if d.fixed != 0 {
		return d.fixed
	}
	return n.Line + d.offset
}

// mark remembers the line of a path. The strings of paths are shared between the
// objects of a file, which halves what many small objects need.
func (d *decoder) mark(path string, n *yaml.Node) {
	if d.meta.Lines == nil || d.exhausted {
		return
	}
	if d.prefix != "" {
		path = d.prefix + path
	}
	shared, ok := d.paths[path]
	if !ok {
		d.paths[path], shared = path, path
	}
	d.meta.Lines[shared] = d.line(n)
}

func (d *decoder) fail(code, path string, n *yaml.Node, format string, args ...any) {
	d.report(Error, code, path, d.line(n), format, args...)
}

func (d *decoder) report(severity Severity, code, path string, line int, format string, args ...any) {
	if severity == Error {
		d.failed = true
	}
	switch {
	case len(d.problems) > maxProblems:
		return
	case len(d.problems) == maxProblems:
		severity, code, path = Error, CodeTooLarge, ""
		format, args = "more problems than are told (%d)", []any{maxProblems}
	}
	if path != "" {
		path = d.prefix + path
	}
	d.problems = append(d.problems, Problem{
		Severity: severity, Code: code, Position: Position{d.file, line},
		Object: d.meta.Ref, Field: path, Message: fmt.Sprintf(format, args...),
	})
}

// document reads one object, or the items of a list.
func (d *decoder) document(n *yaml.Node, depth int) {
	n = deref(n)
	d.meta, d.failed = Meta{Position: Position{d.file, d.line(n)}}, false
	d.meta.Kind = findString(n, "kind")
	d.meta.Name = findString(n, "metadata", "name")
	d.meta.APIVersion = findString(n, "apiVersion")
	switch {
	case n.Kind != yaml.MappingNode:
		d.fail(CodeNotAnObject, "", n, "not a Kubernetes object: a document must be a mapping with apiVersion, kind and metadata, not %s", describe(n))
	case d.meta.Kind == "" && d.meta.APIVersion == "":
		d.fail(CodeNotAnObject, "", n, "not a Kubernetes object: apiVersion and kind are missing")
	case d.meta.Kind == "":
		d.fail(CodeMissing, "kind", n, "is required, for instance ServiceEntry")
	case d.meta.APIVersion == "":
		d.fail(CodeMissing, "apiVersion", n, "is required%s", apiVersionHint(d.meta.Kind))
	case isList(d.meta.Kind) && find(n, "items") != nil:
		d.list(find(n, "items"), depth)
	default:
		d.object(n)
	}
}

func isList(kind string) bool { return strings.HasSuffix(kind, "List") }

func (d *decoder) list(items *yaml.Node, depth int) {
	if items.Kind != yaml.SequenceNode {
		d.fail(CodeWrongType, "items", items, "must be a list, not %s", describe(items))
		return
	}
	if !d.visit(items, "items", depth) {
		return
	}
	for _, item := range items.Content {
		d.document(item, depth+1)
	}
}

// object reads one object whose apiVersion and kind are there.
func (d *decoder) object(n *yaml.Node) {
	object := d.newObject()
	if object == nil {
		return
	}
	d.meta.Namespace = d.namespace(n)
	if !usedObject(object, d.meta.Ref) {
		d.report(Info, CodeNotUsed, "", d.meta.Position.Line, "not used by egret: of ConfigMaps only %q in namespace %q is read", meshConfigName, systemNamespace)
		return
	}
	d.meta.Lines = make(map[string]int)
	fields, ok := d.fields(n, "", 0)
	if !ok {
		return
	}
	mesh, isMesh := object.(*MeshConfig)
	hasMetadata, hasSpec := false, false
	for _, f := range fields {
		d.mark(f.name, f.key)
		switch {
		case f.name == "apiVersion", f.name == "kind", f.name == "status":
		case f.name == "metadata":
			hasMetadata = true
			d.metadata(f.value)
		case f.name == "spec" && specOf(object) != nil:
			if hasSpec = !isNull(f.value); hasSpec {
				d.message(specOf(object).ProtoReflect(), f.value, "spec", 1)
			}
		case f.name == "spec" && !isMesh: // a Namespace's
		case isMesh && f.name == "data":
			d.meshConfig(mesh, f.value)
			hasSpec = true
		case isMesh && (f.name == "binaryData" || f.name == "immutable"):
		default:
			d.report(Error, CodeUnknownField, f.name, d.line(f.key), "no such field%s",
				Suggest(f.name, []string{"apiVersion", "kind", "metadata", "spec"}))
		}
	}
	if !hasMetadata {
		d.fail(CodeMissing, "metadata.name", n, "is required")
	}
	d.finish(object, n, hasSpec)
}

// finish validates the object and keeps it when it has no error.
func (d *decoder) finish(object Object, n *yaml.Node, hasSpec bool) {
	if !hasSpec && d.meta.Kind != "Namespace" {
		if _, ok := object.(*MeshConfig); ok {
			d.fail(CodeMissing, "data", n, "is required: its key %q has the mesh configuration", meshKey)
		} else {
			d.fail(CodeMissing, "spec", n, "is required")
		}
	}
	if d.failed {
		return
	}
	d.meta.Order = len(d.objects)
	*object.Common() = d.meta
	found := d.rules.Validate(object)
	for _, p := range found {
		d.failed = d.failed || p.Severity == Error
	}
	d.problems = append(d.problems, found[:min(len(found), max(0, maxProblems-len(d.problems)))]...)
	if !d.failed {
		d.objects = append(d.objects, object)
	}
}

// specOf makes the object's Spec, when its kind has one, and returns it.
func specOf(object Object) proto.Message {
	switch t := object.(type) {
	case *ServiceEntry:
		t.Spec = &networking.ServiceEntry{}
		return t.Spec
	case *Gateway:
		t.Spec = &networking.Gateway{}
		return t.Spec
	case *VirtualService:
		t.Spec = &networking.VirtualService{}
		return t.Spec
	case *DestinationRule:
		t.Spec = &networking.DestinationRule{}
		return t.Spec
	case *Sidecar:
		t.Spec = &networking.Sidecar{}
		return t.Spec
	case *WorkloadEntry:
		t.Spec = &networking.WorkloadEntry{}
		return t.Spec
	case *PeerAuthentication:
		t.Spec = &security.PeerAuthentication{}
		return t.Spec
	case *Telemetry:
		t.Spec = &telemetry.Telemetry{}
		return t.Spec
	}
	return nil
}

// namespace is where the object is, before its metadata is read strictly.
func (d *decoder) namespace(n *yaml.Node) string {
	if d.meta.Kind == "Namespace" {
		return ""
	}
	if ns := findString(n, "metadata", "namespace"); ns != "" {
		return ns
	}
	if d.meta.Kind == "ConfigMap" && d.meta.Name == meshConfigName {
		return systemNamespace
	}
	return defaultNamespace
}

// metadataFields are those of Kubernetes' ObjectMeta; only the first five are used.
var metadataFields = []string{
	"name", "namespace", "labels", "annotations", "creationTimestamp",
	"generateName", "uid", "resourceVersion", "generation", "managedFields", "ownerReferences",
	"finalizers", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
}

func (d *decoder) metadata(n *yaml.Node) {
	if isNull(n) {
		d.fail(CodeMissing, "metadata.name", n, "is required")
		return
	}
	fields, ok := d.fields(n, "metadata", 1)
	for _, f := range fields {
		at := join("metadata", f.name)
		d.mark(at, f.key)
		switch f.name {
		case "name", "namespace":
			d.stringField(f.value, at)
		case "labels":
			d.meta.Labels = d.stringMap(f.value, at)
		case "annotations":
			d.meta.Annotations = d.stringMap(f.value, at)
		case "creationTimestamp":
			// Absent or null in files made by hand; the object then counts as oldest.
			d.meta.Created, _ = time.Parse(time.RFC3339, f.value.Value)
		default:
			if !slices.Contains(metadataFields, f.name) {
				d.report(Error, CodeUnknownField, at, d.line(f.key), "no such field%s", Suggest(f.name, metadataFields))
			}
		}
	}
	if ok && d.meta.Name == "" {
		d.fail(CodeMissing, "metadata.name", n, "is required")
	}
}

func (d *decoder) stringField(n *yaml.Node, path string) string {
	if isNull(n) {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(CodeWrongType, path, n, "must be a string, not %s", describe(n))
		return ""
	}
	if v, ok := d.stringValue(n, path); ok {
		return v.String()
	}
	return ""
}

func (d *decoder) stringMap(n *yaml.Node, path string) map[string]string {
	if isNull(n) {
		return nil
	}
	fields, _ := d.fields(n, path, 2)
	out := make(map[string]string, len(fields))
	for _, f := range fields {
		at := join(path, f.name)
		d.mark(at, f.key)
		out[f.name] = d.stringField(f.value, at)
	}
	return out
}

// meshConfig reads the YAML inside the ConfigMap's key "mesh". Unknown fields are
// warnings there, as Istio ignores them, too.
func (d *decoder) meshConfig(mesh *MeshConfig, data *yaml.Node) {
	mesh.Spec = &meshconfig.MeshConfig{}
	if isNull(data) {
		return
	}
	fields, _ := d.fields(data, "data", 1)
	for _, f := range fields {
		at := join("data", f.name)
		d.mark(at, f.key)
		switch {
		case f.name == meshKey:
			text := d.stringField(f.value, at)
			if strings.TrimSpace(text) != "" {
				d.embedded(mesh, f.value, text)
			}
		default:
			d.report(Info, CodeNotUsed, at, d.line(f.key), "not used by egret: only the key %q is read", meshKey)
		}
	}
}

// hasKey reports whether a mapping has a key.
func hasKey(n *yaml.Node, key string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

func (d *decoder) embedded(mesh *MeshConfig, n *yaml.Node, text string) {
	inner := *d
	inner.prefix, inner.unknown = "data."+meshKey+".", Warning
	if n.Style&yaml.LiteralStyle != 0 {
		inner.offset = d.line(n) // the text begins on the line after the "|"
	} else {
		inner.fixed = d.line(n)
	}
	docs := inner.parse(chunk{text: []byte(text), skip: inner.offset})
	if inner.fixed != 0 {
		for i := len(d.problems); i < len(inner.problems); i++ {
			inner.problems[i].Line = inner.fixed
		}
	}
	if len(docs) > 0 {
		inner.message(mesh.Spec.ProtoReflect(), docs[0], "", 1)
		mesh.NoAccessLog = mesh.Spec.GetAccessLogFile() == "" && hasKey(docs[0], "accessLogFile")
	}
	d.problems, d.failed = inner.problems, inner.failed
	d.budget, d.exhausted = inner.budget, inner.exhausted
}
