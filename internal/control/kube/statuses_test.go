package kube

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/runtest"
)

func TestNextStatus(t *testing.T) {
	bad := []istioapi.Problem{{Severity: istioapi.Error, Field: "spec.hosts", Message: "is required", Code: istioapi.CodeMissing}}
	weak := []istioapi.Problem{{Severity: istioapi.Warning, Code: istioapi.CodeInsecure}, {Severity: istioapi.Info, Code: istioapi.CodeNotUsed}}
	both := StatusOptions{Reconciled: true, Analysis: true}
	condition := func(status string, generation int, rest string) string {
		return `{"conditions":[{"lastProbeTime":"1970-01-01T00:00:10Z","lastTransitionTime":"1970-01-01T00:00:10Z",` + rest +
			`"observedGeneration":` + string(rune('0'+generation)) + `,` + status + `,"type":"Reconciled"}]`
	}
	up := condition(`"status":"True"`, 2, `"message":"3/3 proxies up to date.",`) + `,"observedGeneration":2}`
	for _, test := range []struct {
		name         string
		in           string // the status that is there
		problems     []istioapi.Problem
		options      StatusOptions
		current, all int
		want         string
	}{
		{"off", "", bad, StatusOptions{}, 3, 3, "null"},
		{"all proxies have it", "", nil, both, 3, 3, up},
		{"nothing to say", up, nil, both, 3, 3, "null"},
		{"it had arrived once", up, nil, both, 1, 3, "null"},
		{"some have it not", "", nil, both, 1, 3, condition(`"status":"False"`, 2, `"message":"1/3 proxies up to date.",`) + `,"observedGeneration":2}`},
		{"it is bad", up, bad, StatusOptions{Reconciled: true}, 3, 3,
			condition(`"reason":"Invalid","status":"False"`, 2, `"message":"spec.hosts: is required",`) + `,"observedGeneration":2}`},
		{"another's condition stays", `{"conditions":[{"type":"Other","status":"True"}]}`, nil, StatusOptions{Reconciled: true}, 0, 0,
			strings.Replace(condition(`"status":"True"`, 2, `"message":"0/0 proxies up to date.",`), "[", `[{"status":"True","type":"Other"},`, 1) + `,"observedGeneration":2}`},
		{"messages", "", append(bad, weak...), StatusOptions{Analysis: true}, 0, 0,
			`{"observedGeneration":2,"validationMessages":[{"documentationUrl":"https://istio.io/latest/docs/reference/config/analysis/ist0106/",` +
				`"level":"ERROR","type":{"code":"IST0106","name":"SchemaValidationError"}},{"level":"WARNING","type":{"name":"insecure"}}]}`},
		{"no messages any more", `{"validationMessages":[{"level":"ERROR"}]}`, nil, StatusOptions{Analysis: true}, 0, 0, `{"observedGeneration":2,"validationMessages":null}`},
	} {
		i := item{problems: test.problems, generation: 2}
		if test.in != "" {
			if err := json.Unmarshal([]byte(test.in), &i.status); err != nil {
				t.Fatal(err)
			}
		}
		got, err := json.Marshal(nextStatus(i, test.options, test.current, test.all, time.Unix(10, 0)))
		if err != nil || string(got) != test.want {
			t.Errorf("%s:\n %s, %v; want\n %s", test.name, got, err, test.want)
		}
	}
}

// One replica writes, another takes over when it is gone.
func TestStatusOfOneReplica(t *testing.T) {
	w := startWorld(t)
	w.apply(entry("one", "one.example.com"))
	w.until("the entry", func(s *source.State) bool { return hosts(s) != "" })
	options := StatusOptions{Reconciled: true, Every: 5 * time.Millisecond, Proxies: func() (int, int) { return 2, 2 }}
	election := Election{Name: StatusElection, Lease: 400 * time.Millisecond, Retry: 20 * time.Millisecond}
	leading := make(chan string, 10)
	start := func(identity string) (stop func()) {
		e := election
		e.Identity = identity
		return runtest.Run(t, identity, func(ctx context.Context) error {
			return w.cluster.Lead(ctx, e, func(ctx context.Context) {
				leading <- identity
				w.cluster.WriteStatus(ctx, options)
			})
		})
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-leading:
			if got != want {
				t.Errorf("%s leads; want %s", got, want)
			}
		case <-time.After(runtest.Patience):
			t.Fatalf("%s never leads", want)
		}
	}
	endFirst := start("first")
	next("first")
	endSecond := start("second")
	written := func() string {
		u, err := w.dynamic.Resource(istioResources[0]).Namespace("apps").Get(context.Background(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		if len(list) != 1 {
			return ""
		}
		c, _ := list[0].(map[string]any)
		message, _ := c["message"].(string)
		return message
	}
	runtest.Eventually(t, "the status", func() bool { return written() == "2/2 proxies up to date." })
	select {
	case got := <-leading:
		t.Errorf("%s leads beside the first", got)
	default:
	}
	endFirst()
	next("second")
	endSecond()
}
