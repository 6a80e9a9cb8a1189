package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// rolledOut waits until a Deployment runs what was applied, and says why when it does not.
func (c *Cluster) rolledOut(ctx context.Context, d *unstructured.Unstructured, timeout time.Duration, tell func(string)) error {
	r, err := c.resource(d.GroupVersionKind(), d.GetNamespace())
	if err != nil {
		return err
	}
	last, why := "", ""
	err = wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, timeout, true, func(ctx context.Context) (bool, error) {
		have, err := r.Get(ctx, d.GetName(), metav1.GetOptions{})
		if err != nil {
			why = cmp.Or(why, err.Error()) // what was seen last says more
			return false, forbidden(err)
		}
		done, state := rollout(have)
		if done {
			return true, nil
		}
		trouble := c.trouble(ctx, have)
		why = strings.Join(append([]string{state}, trouble...), "\n  ")
		if now := strings.Join(append([]string{state}, trouble...), "; "); now != last {
			last = now
			tell(now)
		}
		return false, nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("%s is not ready after %s:\n  %s", describe(d), timeout, why)
	}
	return fmt.Errorf("%s: %w", describe(d), plainError(err))
}

// forbidden is the error when more tries do not help.
func forbidden(err error) error {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return err
	}
	return nil
}

// rollout says whether a Deployment's pods are all of its last version and available, by the
// rules of `kubectl rollout status`.
func rollout(d *unstructured.Unstructured) (done bool, state string) {
	number := func(fields ...string) int64 { n, _, _ := unstructured.NestedInt64(d.Object, fields...); return n }
	want, found, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	if !found {
		want = 1
	}
	updated, available := number("status", "updatedReplicas"), number("status", "availableReplicas")
	switch {
	case number("status", "observedGeneration") < d.GetGeneration():
		return false, "the controller of Deployments has not seen it yet"
	case updated < want:
		return false, fmt.Sprintf("%d of %d pods are made", updated, want)
	case number("status", "replicas") > updated:
		return false, fmt.Sprintf("%d pods of the version before are still there", number("status", "replicas")-updated)
	case available < want:
		return false, fmt.Sprintf("%d of %d pods are ready", available, want)
	}
	return true, ""
}

var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// trouble of a Deployment and its pods, each with its reason. What comes by itself is none.
func (c *Cluster) trouble(ctx context.Context, d *unstructured.Unstructured) []string {
	var out []string
	if f := condition(d, "ReplicaFailure"); f.status == "True" {
		out = append(out, fmt.Sprintf("no pod can be made: %s: %s", f.reason, f.message))
	}
	r, err := c.resource(podKind, d.GetNamespace())
	if err != nil {
		return out
	}
	selector, _, _ := unstructured.NestedStringMap(d.Object, "spec", "selector", "matchLabels")
	pods, err := r.List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
	if err != nil {
		return append(out, fmt.Sprintf("its pods cannot be listed: %v", err))
	}
	for i := range pods.Items {
		out = append(out, podTrouble(&pods.Items[i])...)
	}
	slices.Sort(out)
	return out
}

// fine are the reasons for waiting that pass by themselves.
var fine = []string{"", "ContainerCreating", "PodInitializing"}

// podTrouble says what keeps a pod from being ready: it cannot be scheduled, its image cannot
// be pulled, it ends.
func podTrouble(pod *unstructured.Unstructured) []string {
	var out []string
	name := describe(pod)
	if s := condition(pod, "PodScheduled"); s.status == "False" {
		out = append(out, fmt.Sprintf("%s cannot be scheduled: %s", name, s.message))
	}
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
		for _, item := range list {
			s, _ := item.(tree)
			if t := containerTrouble(s); t != "" {
				out = append(out, fmt.Sprintf("%s, container %s: %s", name, text(s, "name"), t))
			}
		}
	}
	return out
}

func containerTrouble(s tree) string {
	reason, message := text(s, "state", "waiting", "reason"), text(s, "state", "waiting", "message")
	switch {
	case reason == "ImagePullBackOff" || reason == "ErrImagePull" || reason == "InvalidImageName" || reason == "ErrImageNeverPull":
		return fmt.Sprintf("image %s cannot be pulled: %s (--set hub=... and --set tag=... say where images are)", text(s, "image"), pullTrouble(reason, message))
	case reason == "CrashLoopBackOff":
		return fmt.Sprintf("it ends again and again: %s%s", reason, ended(branch(s, "lastState", "terminated")))
	case !slices.Contains(fine, reason):
		return strings.TrimSuffix(fmt.Sprintf("%s: %s", reason, message), ": ")
	}
	if t := branch(s, "state", "terminated"); t != nil && exitCode(t) != 0 {
		return "it ended" + ended(t)
	}
	return ""
}

// pullTrouble is why an image cannot be pulled. The kubelet tells it now as the error of a try
// and now as what it waits for, in turns.
func pullTrouble(reason, message string) string {
	if i := strings.LastIndex(message, "ErrImagePull: "); i >= 0 {
		return message[i+len("ErrImagePull: "):]
	}
	if reason == "ErrImagePull" && message != "" {
		return message
	}
	return strings.TrimSuffix(reason+": "+message, ": ")
}

// ended tells how a container ended.
func ended(t tree) string {
	if t == nil {
		return ""
	}
	out := fmt.Sprintf(" (%s, exit status %d)", text(t, "reason"), exitCode(t))
	if m := strings.TrimSpace(text(t, "message")); m != "" {
		out += ": " + m
	}
	return out
}

func exitCode(t tree) int64 {
	switch n := t["exitCode"].(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}
