package inject

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	admission "k8s.io/api/admission/v1"
)

func handler(t testing.TB) *Handler {
	h := NewHandler(slog.New(slog.DiscardHandler))
	h.Use(injector(t, nil))
	return h
}

// review is what an API server sends.
func review(operation, kind, subresource, object string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"705ab4f5","kind":{"version":"v1","kind":%q},
		"subResource":%q,"name":"x","namespace":"shop","operation":%q,"object":%s,"oldObject":null}}`, kind, subresource, operation, object)
}

func ask(t *testing.T, h http.Handler, path, body string) (int, *admission.AdmissionResponse) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return w.Code, nil
	}
	var answer admission.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.APIVersion != "admission.k8s.io/v1" || answer.Response == nil || answer.Response.UID != "705ab4f5" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, answer.Response
}

func TestInjectByWebhook(t *testing.T) {
	h := handler(t)
	pod := podWith(`{"name":"web"}`, plain)
	_, r := ask(t, h, "/inject/cluster/c1/net/n--slash--1/other_name/v", review("CREATE", "Pod", "", string(pod)))
	if !r.Allowed || r.PatchType == nil || *r.PatchType != admission.PatchTypeJSONPatch {
		t.Fatalf("%+v", r)
	}
	got, _ := json.Marshal(apply(t, pod, r.Patch))
	for _, want := range []string{`{"name":"ISTIO_META_CLUSTER_ID","value":"c1"}`, `{"name":"ISTIO_META_NETWORK","value":"n/1"}`, `{"name":"OTHER_NAME","value":"v"}`, `"topology.istio.io/network":"n/1"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	_, r = ask(t, h, "/inject", review("CREATE", "Pod", "", string(podWith(`{"annotations":{"sidecar.istio.io/logLevel":"loud"}}`, plain))))
	if r.Allowed || r.Result.Code != 422 || !strings.Contains(r.Result.Message, "the annotation sidecar.istio.io/logLevel") {
		t.Errorf("a bad annotation: %+v", r)
	}
	_, r = ask(t, h, "/inject", review("CREATE", "Pod", "", string(podWith(`{"annotations":{"sidecar.istio.io/bootstrapOverride":"x"}}`, `{"securityContext":{"runAsUser":1337},"containers":[{"name":"app"}]}`))))
	if !r.Allowed || len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0], "bootstrapOverride is not used") || !strings.Contains(r.Warnings[1], "the container app runs as user or group 1337") {
		t.Errorf("warnings: %+v", r)
	}
	for _, quiet := range []string{
		review("CREATE", "Pod", "", string(podWith(`{"labels":{"sidecar.istio.io/inject":"false"}}`, plain))),
		review("CREATE", "Pod", "eviction", `{}`), review("DELETE", "Pod", "", "null"), review("CREATE", "ConfigMap", "", `{}`),
	} {
		if _, r := ask(t, h, "/inject", quiet); !r.Allowed || r.Patch != nil {
			t.Errorf("%s: %+v", quiet, r)
		}
	}
	want := []uint64{2, 1, 1}
	if got := []uint64{h.Counted(Injected), h.Counted(Skipped), h.Counted(InjectFailed)}; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestValidate(t *testing.T) {
	entry := func(spec string) string {
		return `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"x","namespace":"shop","uid":"1","managedFields":[]},"spec":` + spec + `}`
	}
	good := entry(`{"hosts":["api.example.com"],"ports":[{"number":443,"name":"tls","protocol":"TLS"}],"resolution":"DNS"}`)
	bad := entry(`{"hosts":["api.example.com"],"ports":[{"number":443,"name":"tls","protokol":"TLS"}],"resolution":"DNSS"}`)
	for _, c := range []struct {
		name, review string
		refused      []string // parts of the message; nil: allowed
		warns        string
	}{
		{"good", review("CREATE", "ServiceEntry", "", good), nil, ""},
		{"bad", review("CREATE", "ServiceEntry", "", bad), []string{"ServiceEntry x: ", "spec.ports[0].protokol: ", "[unknown_field]", "spec.resolution: ", "DNSS"}, ""},
		{"mutual TLS of the mesh", review("CREATE", "DestinationRule", "", `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"x","namespace":"shop","aFieldOfTomorrow":1},"spec":{"host":"a.b","trafficPolicy":{"tls":{"mode":"ISTIO_MUTUAL"}}},"status":{"conditions":[]}}`), nil, ""},
		{"made bad", review("UPDATE", "ServiceEntry", "", bad), []string{"spec.resolution"}, ""},
		{"deleted", review("DELETE", "ServiceEntry", "", "null"), nil, ""},
		{"status", review("UPDATE", "ServiceEntry", "status", bad), nil, ""},
		{"leaving", review("UPDATE", "ServiceEntry", "", strings.Replace(bad, `"uid"`, `"deletionTimestamp":"2026-01-01T00:00:00Z","uid"`, 1)), nil, ""},
		{"not used here", review("CREATE", "AuthorizationPolicy", "", `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"x","namespace":"shop"},"spec":{}}`), nil, "not used by egret"},
		{"no object", review("CREATE", "ServiceEntry", "", `[]`), []string{"not an object"}, ""},
	} {
		_, r := ask(t, handler(t), "/validate", c.review)
		if r.Allowed != (c.refused == nil) || !strings.Contains(strings.Join(r.Warnings, "\n"), c.warns) {
			t.Errorf("%s: %+v", c.name, r)
		}
		for _, part := range c.refused {
			if r.Result == nil || !strings.Contains(r.Result.Message, part) {
				t.Errorf("%s: no %q in %+v", c.name, part, r.Result)
			}
		}
	}
}

// What is no question of an API server is refused, whole, and costs little.
func TestHostileReviews(t *testing.T) {
	good := review("CREATE", "Pod", "", string(podWith(`{}`, plain)))
	for _, c := range []struct {
		name, method, path, contentType string
		body                            io.Reader
		want                            int
	}{
		{"another method", "GET", "/inject", "application/json", strings.NewReader(good), 405},
		{"another path", "POST", "/injected", "application/json", strings.NewReader(good), 404},
		{"another type", "POST", "/inject", "application/yaml", strings.NewReader(good), 415},
		{"nothing", "POST", "/inject", "application/json", strings.NewReader(""), 400},
		{"no JSON", "POST", "/validate", "application/json", strings.NewReader("{"), 400},
		{"too deep", "POST", "/validate", "application/json", strings.NewReader(strings.Repeat("[", 1<<20)), 400},
		{"no request", "POST", "/inject", "application/json", strings.NewReader(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), 400},
		{"an old version", "POST", "/inject", "application/json", strings.NewReader(strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1)), 400},
		{"too large", "POST", "/inject", "application/json", io.LimitReader(zeros{}, maxReview+1), 413},
	} {
		r := httptest.NewRequest(c.method, c.path, c.body)
		r.Header.Set("Content-Type", c.contentType)
		w := httptest.NewRecorder()
		handler(t).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	if status, _ := ask(t, NewHandler(slog.New(slog.DiscardHandler)), "/inject", good); status != 503 {
		t.Errorf("without a configuration: %d", status)
	}
	for _, spec := range []string{`null`, `{}`, `{"containers":null}`, `{"containers":[null]}`, `{"containers":[{}]}`, `{"containers":{}}`, `[]`} {
		_, r := ask(t, handler(t), "/inject", review("CREATE", "Pod", "", string(podWith(`null`, spec))))
		if r.Allowed && r.Patch == nil {
			t.Errorf("%s: let by without a proxy", spec)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, strings.Repeat(" ", len(p))), nil }
