package inject

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// operation is one of a JSON Patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"` // a JSON pointer (RFC 6901)
	Value any    `json:"value,omitempty"`
}

// diff appends what makes b of a. A list that differs is replaced as a whole: its elements
// have moved.
func diff(path string, a, b map[string]any, out []operation) []operation {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		before, was := a[key]
		after, is := b[key]
		inner, mapBefore := before.(map[string]any)
		outer, mapAfter := after.(map[string]any)
		switch {
		case !is:
			out = append(out, operation{Op: "remove", Path: at})
		case !was:
			out = append(out, operation{"add", at, after})
		case mapBefore && mapAfter:
			out = diff(at, inner, outer, out)
		case !reflect.DeepEqual(before, after):
			out = append(out, operation{"replace", at, after})
		}
	}
	return out
}
