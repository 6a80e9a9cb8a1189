package standalone

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Workload is what the command is to the mesh.
type Workload struct {
	Name, Namespace string
	Labels          map[string]string
}

// Kubernetes' rules for the two parts of a label, without the prefix of the key.
var (
	labelKey   = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?$`)
	labelValue = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)?$`)
)

// Check refuses what no workload can be called in Kubernetes: an object could never be
// meant for it, and the operator would look for the reason elsewhere.
func (w Workload) Check() error {
	const rule = "lower case letters, digits and inner hyphens, at most 63"
	if !istioapi.IsLabel(w.Namespace) {
		return fmt.Errorf("%q is not a namespace: %s", w.Namespace, rule)
	}
	for part := range strings.SplitSeq(w.Name, ".") {
		if !istioapi.IsLabel(part) || len(w.Name) > 253 {
			return fmt.Errorf("%q is not a workload's name: %s", w.Name, rule)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
		name := key[strings.LastIndexByte(key, '/')+1:]
		if !labelKey.MatchString(name) || !labelValue.MatchString(w.Labels[key]) {
			return fmt.Errorf("%q=%q is not a label: letters, digits and inner hyphens, dots and underscores, at most 63", key, w.Labels[key])
		}
	}
	return nil
}
