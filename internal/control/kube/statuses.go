package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// StatusOptions say what is written into the status of Istio's objects. As in Istio both
// are off unless somebody wants them: each write is one more of the API server's.
type StatusOptions struct {
	// Reconciled is the condition of that name (istiod's PILOT_ENABLE_STATUS): whether the
	// proxies have what the object says.
	Reconciled bool
	// Analysis is validationMessages (istiod's PILOT_ENABLE_ANALYSIS): what is wrong with it.
	Analysis bool
	// Proxies says how many of how many proxies have all that they were sent; needed for
	// Reconciled.
	Proxies func() (current, all int)
	// Every is the time between looks at what there is to write; default 1 s.
	Every time.Duration
}

// StatusElection is the name of the election of the replica that writes, as istiod has it.
const StatusElection = "istio-status-leader"

// WriteStatus writes the status of Istio's objects until ctx ends. One replica does it at a
// time (see Lead). What cannot be written is tried again.
func (c *Cluster) WriteStatus(ctx context.Context, o StatusOptions) {
	tick := time.NewTicker(cmp.Or(o.Every, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		current, all := 0, 0
		if o.Proxies != nil {
			current, all = o.Proxies()
		}
		for at, t := range c.istio.tables[:len(istioResources)] {
			for k, i := range t.all() {
				if next := nextStatus(i, o, current, all, time.Now()); next != nil {
					c.writeStatus(ctx, at, k, next)
				}
			}
		}
	}
}

func (c *Cluster) writeStatus(ctx context.Context, at int, k key, status map[string]any) {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err == nil {
		client := c.options.Dynamic.Resource(istioResources[at]).Namespace(k.namespace)
		_, err = client.Patch(ctx, k.name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		c.options.Logger.Debug("cannot write a status", "resource", istioResources[at].Resource, "namespace", k.namespace, "name", k.name, "error", err)
	}
}

// reconciled is the type of Istio's condition.
const reconciled = "Reconciled"

// nextStatus is what the status of an object is to become; nil: it is as it should be. What
// others wrote there stays. A version that all proxies have had stays reconciled, whatever
// they are sent later.
func nextStatus(i item, o StatusOptions, current, all int, now time.Time) map[string]any {
	next := map[string]any{}
	if o.Reconciled {
		conditions, _ := i.status["conditions"].([]any)
		old := conditionOf(conditions)
		want := conditionFor(i, current, all)
		if !settled(old, want) {
			want["lastProbeTime"], want["lastTransitionTime"] = stamp(now), stamp(now)
			if old["status"] == want["status"] && old["lastTransitionTime"] != nil {
				want["lastTransitionTime"] = old["lastTransitionTime"]
			}
			others := slices.DeleteFunc(slices.Clone(conditions), func(c any) bool { return typeOfCondition(c) == reconciled })
			next["conditions"] = append(others, want)
			next["observedGeneration"] = i.generation
		}
	}
	if o.Analysis {
		want := messagesOf(i.problems)
		have, _ := i.status["validationMessages"].([]any)
		if len(want)+len(have) > 0 && !reflect.DeepEqual(want, have) {
			next["validationMessages"] = want
			next["observedGeneration"] = i.generation
		}
	}
	if len(next) == 0 {
		return nil
	}
	return next
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func typeOfCondition(c any) any {
	m, _ := c.(map[string]any)
	return m["type"]
}

func conditionOf(conditions []any) map[string]any {
	for _, c := range conditions {
		if typeOfCondition(c) == reconciled {
			m, _ := c.(map[string]any)
			return m
		}
	}
	return nil
}

// conditionFor is the condition of an object's version at the moment.
func conditionFor(i item, current, all int) map[string]any {
	c := map[string]any{
		"type": reconciled, "status": "False", "observedGeneration": i.generation,
		"message": fmt.Sprintf("%d/%d proxies up to date.", current, all),
	}
	if current == all {
		c["status"] = "True"
	}
	for _, p := range i.problems {
		if p.Severity == istioapi.Error {
			c["status"], c["reason"] = "False", "Invalid"
			c["message"] = p.Field + ": " + p.Message
			break
		}
	}
	return c
}

// settled says that the condition need not be written again.
func settled(old, want map[string]any) bool {
	if old == nil || fmt.Sprint(old["observedGeneration"]) != fmt.Sprint(want["observedGeneration"]) {
		return false
	}
	invalid := want["reason"] != nil
	if old["status"] == "True" {
		return !invalid
	}
	return old["status"] == want["status"] && old["message"] == want["message"]
}

// messagesOf are the problems as Istio's AnalysisMessageBase has them, which has no room for
// words of one's own.
func messagesOf(problems []istioapi.Problem) []any {
	var out []any
	for _, p := range problems {
		if p.Severity == istioapi.Info {
			continue
		}
		level := "WARNING"
		kind := map[string]any{"name": p.Code}
		if p.Severity == istioapi.Error {
			level = "ERROR"
			kind = map[string]any{"name": "SchemaValidationError", "code": "IST0106"} // Istio's
		}
		m := map[string]any{"type": kind, "level": level}
		if level == "ERROR" {
			m["documentationUrl"] = "https://istio.io/latest/docs/reference/config/analysis/ist0106/"
		}
		if !slices.ContainsFunc(out, func(o any) bool { return reflect.DeepEqual(o, any(m)) }) {
			out = append(out, m)
		}
	}
	return out
}
