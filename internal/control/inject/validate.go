package inject

import (
	"encoding/json"
	"fmt"
	"strings"

	admission "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Bounds of what is told of one object. The API server takes 256 characters of a warning,
// and 4096 of all (k8s.io/api/admission/v1).
const (
	maxTold    = 10
	maxWarning = 256
)

// validate judges an object of Istio as it is read from files, and from the cluster later:
// an error refuses it, and warnings go to who applies it.
func (h *Handler) validate(q *admission.AdmissionRequest) *admission.AdmissionResponse {
	if q.Operation != admission.Create && q.Operation != admission.Update || q.SubResource != "" || leaving(q.Object.Raw) {
		return allowed()
	}
	var content map[string]any
	if err := json.Unmarshal(q.Object.Raw, &content); err != nil {
		h.counts[Invalid].Add(1)
		return refused(fmt.Sprintf("%s %s: not an object: %v", q.Kind.Kind, q.Name, err))
	}
	_, problems := istioapi.FromCluster(content)
	var errs, notes []string
	for _, p := range problems {
		switch {
		case p.Severity == istioapi.Error:
			errs = append(errs, told(p))
		case p.Severity == istioapi.Warning:
			notes = append(notes, told(p))
		}
	}
	if len(errs) > 0 {
		h.counts[Invalid].Add(1)
		if len(errs) > maxTold {
			errs = append(errs[:maxTold], fmt.Sprintf("and %d more", len(errs)-maxTold))
		}
		message := fmt.Sprintf("%s %s: %s", q.Kind.Kind, q.Name, strings.Join(errs, "; "))
		h.log.Info("an object is refused", "kind", q.Kind.Kind, "namespace", q.Namespace, "name", q.Name, "why", strings.Join(errs, "; "))
		r := refused(message)
		r.Warnings = warnings(notes)
		return r
	}
	h.counts[Valid].Add(1)
	r := allowed()
	r.Warnings = warnings(notes)
	return r
}

// leaving reports whether the object is being deleted: who takes a finalizer away must not
// be stopped by what is wrong with the rest.
func leaving(raw []byte) bool {
	var o metav1.PartialObjectMetadata
	return json.Unmarshal(raw, &o) == nil && o.DeletionTimestamp != nil
}

// told is "field: message [code]".
func told(p istioapi.Problem) string {
	text := p.Message + " [" + p.Code + "]"
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	return text
}

// warnings keeps to the API server's bounds.
func warnings(all []string) (out []string) {
	for _, w := range all {
		if len(out) == maxTold {
			break
		}
		if runes := []rune(w); len(runes) > maxWarning {
			w = string(runes[:maxWarning-1]) + "…"
		}
		out = append(out, w)
	}
	return out
}
