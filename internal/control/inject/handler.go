package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"

	admission "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of what the API server asks.
const (
	maxReview = 6 << 20 // bytes: the object, the one before, and what is around them
	maxAtOnce = 8       // reviews that are decoded and judged at a time; others wait
)

// Handler serves the webhooks: /inject, also with KEY/VALUE pairs after it, and /validate.
type Handler struct {
	injector atomic.Pointer[Injector]
	log      *slog.Logger
	turns    chan struct{}
	counts   [countKinds]atomic.Uint64
}

// NewHandler makes a Handler without an Injector: until Use, /inject is answered with 503,
// so that the API server goes by the webhook's failurePolicy.
func NewHandler(logger *slog.Logger) *Handler {
	return &Handler{log: logger, turns: make(chan struct{}, maxAtOnce)}
}

// Use makes in decide about pods from now on.
func (h *Handler) Use(in *Injector) { h.injector.Store(in) }

// Ready reports whether there is an Injector.
func (h *Handler) Ready() bool { return h.injector.Load() != nil }

// Count is a kind of end of a review.
type Count int

// The ends of reviews.
const (
	Injected Count = iota
	Skipped
	InjectFailed
	Valid
	Invalid
	countKinds
)

// Counted is how often that happened.
func (h *Handler) Counted(c Count) uint64 { return h.counts[c].Load() }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	judge := h.validate
	switch {
	case r.URL.Path == "/inject" || strings.HasPrefix(r.URL.Path, "/inject/"):
		in := h.injector.Load()
		if in == nil {
			http.Error(w, "there is no configuration of injection yet", http.StatusServiceUnavailable)
			return
		}
		judge = func(q *admission.AdmissionRequest) *admission.AdmissionResponse {
			return h.inject(in, pathEnv(r.URL.Path), q)
		}
	case r.URL.Path != "/validate":
		http.NotFound(w, r)
		return
	}
	status, err := h.review(w, r, judge)
	if err != nil {
		h.log.Warn("a review was refused", "path", shorten(r.URL.Path), "status", status, "error", err)
		http.Error(w, err.Error(), status)
	}
}

// review reads an AdmissionReview and answers it; otherwise it says why not, and with
// which status.
func (h *Handler) review(w http.ResponseWriter, r *http.Request, judge func(*admission.AdmissionRequest) *admission.AdmissionResponse) (int, error) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, errors.New("only POST")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, errors.New("the content type is not application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("over %d bytes", maxReview)
	}
	if err != nil {
		return http.StatusBadRequest, err
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-r.Context().Done():
		return http.StatusServiceUnavailable, r.Context().Err()
	}
	request, err := decodeReview(body)
	if err != nil {
		return http.StatusBadRequest, err
	}
	response := judge(request)
	response.UID = request.UID
	w.Header().Set("Content-Type", "application/json")
	return http.StatusOK, json.NewEncoder(w).Encode(&admission.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Response: response,
	})
}

// decodeReview reads the API server's question.
func decodeReview(body []byte) (*admission.AdmissionRequest, error) {
	var review admission.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("not an AdmissionReview: %w", err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("%s %s is not an AdmissionReview of admission.k8s.io/v1", shorten(review.APIVersion), shorten(review.Kind))
	}
	if review.Request == nil {
		return nil, errors.New("an AdmissionReview without a request")
	}
	return review.Request, nil
}

func allowed() *admission.AdmissionResponse { return &admission.AdmissionResponse{Allowed: true} }

// refused is told by kubectl as 'admission webhook "..." denied the request: MESSAGE'.
func refused(message string) *admission.AdmissionResponse {
	return &admission.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: message,
	}}
}

func (h *Handler) inject(in *Injector, env map[string]string, q *admission.AdmissionRequest) *admission.AdmissionResponse {
	if q.Kind.Kind != "Pod" || q.SubResource != "" || q.Operation == admission.Delete {
		return allowed()
	}
	result, err := in.Inject(Request{Pod: q.Object.Raw, Namespace: q.Namespace, Env: env})
	log := h.log.With("namespace", q.Namespace, "pod", podName(q.Object.Raw))
	if err != nil {
		h.counts[InjectFailed].Add(1)
		log.Error("a pod is refused, because no proxy can be put into it", "error", err)
		return refused("no proxy can be put into the pod: " + err.Error())
	}
	response := allowed()
	response.Warnings = warnings(result.Warnings)
	if result.Skipped != "" {
		h.counts[Skipped].Add(1)
		log.Info("a pod gets no proxy", "why", result.Skipped)
		return response
	}
	h.counts[Injected].Add(1)
	log.Debug("a pod gets a proxy", "changed", result.Patch != nil)
	if result.Patch != nil {
		kind := admission.PatchTypeJSONPatch
		response.Patch, response.PatchType = result.Patch, &kind
	}
	return response
}

// podName is what is known of the name before the API server has made one.
func podName(raw []byte) string {
	var pod metav1.PartialObjectMetadata
	if json.Unmarshal(raw, &pod) != nil {
		return ""
	}
	if pod.Name == "" && pod.GenerateName != "" {
		return pod.GenerateName + "*"
	}
	return pod.Name
}

// pathEnv reads the pairs of /inject/KEY/VALUE/...: cluster and net are Istio's short
// names, others are the names of variables. --slash-- stands for "/" in a value
// (istio.io/istio/pkg/kube/inject parseInjectEnvs).
func pathEnv(path string) map[string]string {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(path, "/inject"), "/"), "/")
	env := map[string]string{}
	for i := 0; i+1 < len(parts); i += 2 {
		name := map[string]string{"cluster": "ISTIO_META_CLUSTER_ID", "net": "ISTIO_META_NETWORK"}[parts[i]]
		if name == "" {
			name = strings.ToUpper(parts[i])
		}
		if name != "" {
			env[name] = strings.ReplaceAll(parts[i+1], "--slash--", "/")
		}
	}
	return env
}
