package standalone

import (
	"strings"
	"testing"
)

func TestWorkloadCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		w    Workload
		ok   bool
	}{
		{"default", Workload{Name: "workload", Namespace: "default"}, true},
		{"pod's name", Workload{Name: "web-7d4b.example", Namespace: "prod-1"}, true},
		{"labels", Workload{Name: "w", Namespace: "n", Labels: map[string]string{"app": "My_App.1", "app.kubernetes.io/name": ""}}, true},
		{"no namespace", Workload{Name: "w"}, false},
		{"namespace with spaces", Workload{Name: "w", Namespace: "my space"}, false},
		{"namespace in capitals", Workload{Name: "w", Namespace: "Prod"}, false},
		{"no name", Workload{Namespace: "n"}, false},
		{"name with slash", Workload{Name: "a/b", Namespace: "n"}, false},
		{"long name", Workload{Name: strings.Repeat("a.", 130) + "a", Namespace: "n"}, false},
		{"label key", Workload{Name: "w", Namespace: "n", Labels: map[string]string{"a b": "c"}}, false},
		{"empty label key", Workload{Name: "w", Namespace: "n", Labels: map[string]string{"": "c"}}, false},
		{"label value", Workload{Name: "w", Namespace: "n", Labels: map[string]string{"a": "b/c"}}, false},
	} {
		if err := tc.w.Check(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
