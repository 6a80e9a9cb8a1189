// Package install is what `egret install` and its kin do: it turns a profile, IstioOperator
// files and --set into the objects of Egret's Helm charts, and brings a cluster there.
//
// What to install is decided before anything is asked of a cluster: Plan and Render are pure.
// It must not print, and knows nothing of flags; who calls it is told of progress.
package install

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// tree is YAML or JSON that was read: maps, lists, strings, numbers, booleans.
type tree = map[string]any

// Request says what is to be installed, in istioctl's ways of saying it.
type Request struct {
	// Charts has the charts and profiles, as package charts has them.
	Charts fs.FS
	// Files are IstioOperator YAML; later ones win. Sets are PATH=VALUE and win over files.
	Files []File
	Sets  []string
	// Revision, where not empty, wins over both.
	Revision string
	// Version of the program: the tag of images where none is given.
	Version string
	// Force goes on with paths that are not known.
	Force bool
}

// File of IstioOperator YAML.
type File struct {
	Name string
	Data []byte
}

// Plan is what a request comes to: the releases of charts, in the order of their install.
type Plan struct {
	Profile   string
	Namespace string
	// Revision is "" for the one without a name.
	Revision string
	Version  string
	Releases []Release
	// Remarks are about settings that do not do what they say.
	Remarks []string
	charts  fs.FS
	force   bool
}

// Release is one chart with its values.
type Release struct {
	// Component is Istio's name: Base, Pilot, IngressGateways or EgressGateways.
	Component string
	// Title is what people call it.
	Title                  string
	Chart, Name, Namespace string
	Values                 map[string]any
}

// operator is the part of IstioOperator around its spec.
type operator struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       tree           `json:"spec"`
	Status     any            `json:"status"`
}

// NewPlan reads a request. Its error names every path that is not known.
func NewPlan(r Request) (*Plan, error) {
	given, err := overlay(r)
	if err != nil {
		return nil, err
	}
	profile := cmp.Or(text(given, "profile"), "default")
	spec, err := loadProfile(r.Charts, profile)
	if err != nil {
		return nil, err
	}
	known, err := knownSpec(r.Charts)
	if err != nil {
		return nil, err
	}
	if problems := unknown(given, known, ""); len(problems) > 0 && !r.Force {
		return nil, errors.Join(problems...)
	}
	spec = merged(spec, given)
	return newPlan(r, profile, spec)
}

// overlay is what files, sets and revision say together.
func overlay(r Request) (tree, error) {
	given := tree{}
	for _, f := range r.Files {
		spec, err := readOperator(f)
		if err != nil {
			return nil, err
		}
		given = merged(given, spec)
	}
	for _, s := range r.Sets {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: no \"=\"; it is PATH=VALUE", s)
		}
		if err := set(given, name, value); err != nil {
			return nil, fmt.Errorf("--set %s: %w", s, err)
		}
	}
	if r.Revision != "" {
		given["revision"] = r.Revision
	}
	return given, nil
}

func readOperator(f File) (tree, error) {
	var o operator
	if err := yaml.UnmarshalStrict(f.Data, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if o.Kind != "IstioOperator" {
		return nil, fmt.Errorf("%s: kind is %q; wanted is an IstioOperator (install.istio.io/v1alpha1)", f.Name, o.Kind)
	}
	if o.APIVersion != "install.istio.io/v1alpha1" {
		return nil, fmt.Errorf("%s: apiVersion is %q; IstioOperator is install.istio.io/v1alpha1", f.Name, o.APIVersion)
	}
	return o.Spec, nil
}

// Profiles are the names of the profiles.
func Profiles(charts fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(charts, "profiles")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names, nil
}

// loadProfile is the default profile with the named one over it.
func loadProfile(charts fs.FS, name string) (tree, error) {
	names, err := Profiles(charts)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("there is no profile %q%s; profiles are %s", name, istioapi.Suggest(name, names), strings.Join(names, ", "))
	}
	spec := tree{}
	for _, n := range slices.Compact([]string{"default", name}) {
		file := path.Join("profiles", n+".yaml")
		data, err := fs.ReadFile(charts, file)
		if err != nil {
			return nil, err
		}
		over, err := readOperator(File{file, data})
		if err != nil {
			return nil, err
		}
		spec = merged(spec, over)
	}
	return spec, nil
}

// merged is a copy of a with b over it. Maps are merged, lists of named things by name, all
// else of b is taken as it is.
func merged(a, b tree) tree {
	out := maps.Clone(a)
	if out == nil {
		out = tree{}
	}
	for k, v := range b {
		out[k] = mergedValue(out[k], v)
	}
	return out
}

func mergedValue(a, b any) any {
	switch b := b.(type) {
	case tree:
		if a, ok := a.(tree); ok {
			return merged(a, b)
		}
		return merged(nil, b)
	case []any:
		a, _ := a.([]any)
		if out, ok := mergedList(a, b); ok {
			return out
		}
	}
	return b
}

// mergedList merges lists of gateways, which have a name and may have a namespace; false:
// they are of something else.
func mergedList(a, b []any) ([]any, bool) {
	out := slices.Clone(a)
	for _, item := range b {
		over, ok := item.(tree)
		if !ok || text(over, "name") == "" {
			return nil, false
		}
		if _, isPort := over["port"]; isPort {
			return nil, false
		}
		at := slices.IndexFunc(out, func(have any) bool {
			h, ok := have.(tree)
			return ok && text(h, "name") == text(over, "name") && text(h, "namespace") == text(over, "namespace")
		})
		if at < 0 {
			out = append(out, merged(nil, over))
			continue
		}
		out[at] = mergedValue(out[at], over)
	}
	return out, true
}

// text is the string at the path, or "".
func text(t tree, names ...string) string {
	s, _ := at(t, names...).(string)
	return s
}

// branch is the map at the path, which is never nil, and not to be written.
func branch(t tree, names ...string) tree {
	b, _ := at(t, names...).(tree)
	return b
}

func at(t tree, names ...string) any {
	var v any = t
	for _, n := range names {
		m, _ := v.(tree)
		v = m[n]
	}
	return v
}
