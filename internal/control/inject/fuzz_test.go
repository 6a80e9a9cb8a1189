package inject

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	admission "k8s.io/api/admission/v1"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Whatever is sent to the webhooks, the answer is one that an API server takes: a review of
// the same question, within its bounds, that refuses with words or allows; and the patch of
// a pod applies to it.
func FuzzReview(f *testing.F) {
	f.Add("/inject", review("CREATE", "Pod", "", string(podWith(`{"name":"web","annotations":{"inject.istio.io/templates":"gateway"}}`, plain))))
	f.Add("/inject/cluster/c1/net/n", review("CREATE", "Pod", "", string(podWith(`{"generateName":"web-"}`, plain))))
	f.Add("/validate", review("UPDATE", "ServiceEntry", "", `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"x"},"spec":{"hosts":["a.b"]}}`))
	f.Add("/validate", review("CREATE", "VirtualService", "", `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"x"},"spec":{"hosts":["a.b"],"http":[{"route":[{"destination":{"host":"c"}}]}]}}`))
	h := handler(f)
	f.Fuzz(func(t *testing.T, path, body string) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \x00%?#\x7f") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Skip()
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return
		}
		question, err := decodeReview([]byte(body))
		if err != nil {
			t.Fatalf("an answer to %q: %v", body, err)
		}
		var answer admission.AdmissionReview
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil || answer.Response.UID != question.UID {
			t.Fatalf("%v: %s", err, w.Body)
		}
		checkAnswer(t, answer.Response)
		if patch := answer.Response.Patch; patch != nil {
			apply(t, question.Object.Raw, patch)
		}
	})
}

func checkAnswer(t *testing.T, r *admission.AdmissionResponse) {
	t.Helper()
	if r.Allowed == (r.Result != nil) || !r.Allowed && (r.Result.Message == "" || r.Patch != nil) || (r.Patch != nil) != (r.PatchType != nil) {
		t.Errorf("%+v", r)
	}
	if len(r.Warnings) > maxTold {
		t.Errorf("%d warnings", len(r.Warnings))
	}
	for _, w := range r.Warnings {
		if utf8.RuneCountInString(w) > maxWarning {
			t.Errorf("a warning of %d characters", utf8.RuneCountInString(w))
		}
	}
}

// What the webhook lets by is what the reader of the cluster takes, and the other way round:
// nothing is stored that is then left out, and nothing good is refused.
func FuzzValidate(f *testing.F) {
	for _, spec := range []string{
		`"ServiceEntry","metadata":{"name":"x","namespace":"n"},"spec":{"hosts":["a.example"],"ports":[{"number":443,"name":"tls","protocol":"TLS"}],"resolution":"DNS"}`,
		`"VirtualService","metadata":{"name":"x","namespace":"n"},"spec":{"hosts":["a.example"],"http":[{"match":[{"uri":{"regex":"a+"}}],"route":[{"destination":{"host":"c"},"weight":1}]}]}`,
		`"DestinationRule","metadata":{"name":"x","namespace":"n"},"spec":{"host":"a","trafficPolicy":{"tls":{"mode":"ISTIO_MUTUAL"}}}`,
		`"Gateway","metadata":{"name":"x","namespace":"n"},"spec":{"selector":{"a":"b"},"servers":[{"port":{"number":443,"name":"https","protocol":"HTTPS"},"hosts":["*"],"tls":{"mode":"PASSTHROUGH"}}]}`,
		`"Sidecar","metadata":{"name":"x","namespace":"n"},"spec":{"egress":[{"hosts":["./*"]}],"outboundTrafficPolicy":{"mode":"REGISTRY_ONLY"}}`,
		`"WorkloadEntry","metadata":{"name":"x","namespace":"n"},"spec":{"address":"10.0.0.1"}`,
	} {
		f.Add(`{"apiVersion":"networking.istio.io/v1","kind":` + spec + `}`)
	}
	f.Add(`{"apiVersion":"telemetry.istio.io/v1","kind":"Telemetry","metadata":{"name":"x"},"spec":{"accessLogging":[{"filter":{"expression":"response.code >= 400"}}]}}`)
	h := handler(f)
	f.Fuzz(func(t *testing.T, object string) {
		var content map[string]any
		if json.Unmarshal([]byte(object), &content) != nil || leaving([]byte(object)) {
			t.Skip()
		}
		question := &admission.AdmissionRequest{Operation: admission.Create}
		question.Object.Raw = []byte(object)
		r := h.validate(question)
		checkAnswer(t, r)
		_, problems := istioapi.FromCluster(content)
		bad := slices.ContainsFunc(problems, func(p istioapi.Problem) bool { return p.Severity == istioapi.Error })
		if r.Allowed == bad {
			t.Errorf("allowed: %v, problems: %v", r.Allowed, problems)
		}
	})
}

// Whatever a pod is, the patch makes of it what was meant; none of its containers is lost;
// it has one proxy, with an image; and a second injection finds nothing to do.
func FuzzInject(f *testing.F) {
	f.Add(string(podWith(`{"name":"web"}`, plain)))
	f.Add(string(podWith(`{"annotations":{"sidecar.istio.io/status":"{}"}}`, `{"containers":[{"name":"istio-proxy","image":"auto"},{"name":"a","livenessProbe":{"httpGet":{"port":1}}}]}`)))
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(toJSONText(f, string(text))))
	}
	in := injector(f, nil)
	f.Fuzz(func(t *testing.T, pod string) {
		r, err := in.Inject(Request{Pod: []byte(pod), Namespace: "shop"})
		if err != nil || r.Skipped != "" {
			return
		}
		want := objectOf(t, r.Pod)
		if got := apply(t, []byte(pod), r.Patch); !reflect.DeepEqual(got, want) {
			t.Errorf("the patch of %s makes\n%v, want\n%v", pod, got, want)
		}
		checkInjected(t, objectOf(t, []byte(pod)), want)
		again, err := in.Inject(Request{Pod: r.Pod, Namespace: "shop"})
		if err != nil || again.Patch != nil {
			t.Errorf("injected again: %v\n%s\n%s", err, r.Pod, again.Patch)
		}
	})
}

func objectOf(t *testing.T, text []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func checkInjected(t *testing.T, before, after map[string]any) {
	t.Helper()
	if _, err := typed(after); err != nil {
		t.Errorf("an API server would refuse the pod: %v", err)
	}
	spec := child(after, "spec")
	all := append(namesOf(spec["containers"]), namesOf(spec["initContainers"])...)
	metadata, _ := before["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	if _, injected := annotations[annotationStatus]; !injected {
		was, _ := before["spec"].(map[string]any)
		for _, name := range append(namesOf(was["containers"]), namesOf(was["initContainers"])...) {
			if !slices.Contains(all, name) {
				t.Errorf("the container %q is gone", name)
			}
		}
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range elements(spec[list]) {
			if c["name"] == proxyContainer && (c["image"] == autoImage || c["image"] == "") {
				t.Errorf("the proxy has the image %v", c["image"])
			}
		}
	}
}

// maySay is what the value of an annotation may change of a pod, by the path of the field;
// what none of these begins with stays as it is without the annotation. Values that could
// break out of a template's quotes would show here.
var maySay = map[string][]string{
	annotationImage: {"image"}, annotationImageType: {"image"},
	"sidecar.istio.io/userVolume": {"volumes"}, "sidecar.istio.io/userVolumeMount": {"volumeMounts"},
	"sidecar.istio.io/proxyCPU": {"resources", "env"}, "sidecar.istio.io/proxyCPULimit": {"resources", "env"},
	"sidecar.istio.io/proxyMemory": {"resources", "env"}, "sidecar.istio.io/proxyMemoryLimit": {"resources", "env"},
}

// No value of an annotation gives the proxy or its init container another image, command,
// user, right or volume, or makes another container, but where that is what it is for.
func FuzzAnnotations(f *testing.F) {
	all := slices.Sorted(maps.Keys(checks))
	all = slices.DeleteFunc(all, func(name string) bool { // those that choose what is injected
		return name == annotationTemplates || name == annotationStatus || name == annotationOverrides || name == annotationNative || name == annotationMode
	})
	for i, name := range all {
		for _, value := range []string{"80,443", "*", "10.0.0.0/8", "100m", "info", "true", "\"\n      securityContext: {privileged: true}\n      x: \"", "}}"} {
			if checks[name](value) == nil {
				f.Add(uint8(i), value)
			}
		}
	}
	in := injector(f, nil)
	secure := func(t *testing.T, annotations map[string]string) (map[string]any, error) {
		t.Helper()
		metadata, err := json.Marshal(map[string]any{"name": "web", "annotations": annotations})
		if err != nil {
			t.Fatal(err)
		}
		r, err := in.Inject(Request{Pod: podWith(string(metadata), plain), Namespace: "shop"})
		if err != nil {
			return nil, err
		}
		return objectOf(t, r.Pod), nil
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		name := all[int(which)%len(all)]
		got, err := secure(t, map[string]string{name: value})
		if err != nil {
			return
		}
		want, err := secure(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := typed(got); err != nil {
			t.Errorf("an API server would refuse the pod: %v", err)
		}
		may := maySay[name]
		sameFields(t, child(want, "spec"), child(got, "spec"), may, "hostNetwork", "hostPID", "hostIPC", "securityContext", "volumes", "serviceAccountName")
		for _, list := range []string{"containers", "initContainers"} {
			wanted, gotten := elements(child(want, "spec")[list]), elements(child(got, "spec")[list])
			if len(wanted) != len(gotten) {
				t.Fatalf("%s: %d, want %d", list, len(gotten), len(wanted))
			}
			for i := range wanted {
				sameFields(t, wanted[i], gotten[i], may, "name", "image", "command", "securityContext", "volumeMounts", "restartPolicy", "resources", "workingDir", "envFrom", "lifecycle")
				if a, b := len(elements(wanted[i]["env"])), len(elements(gotten[i]["env"])); a != b && !slices.Contains(may, "env") && name != annotationProbes {
					t.Errorf("%s of %s: %d variables, want %d", list, gotten[i]["name"], b, a)
				}
			}
		}
	})
}

func sameFields(t *testing.T, want, got map[string]any, may []string, fields ...string) {
	t.Helper()
	for _, field := range fields {
		if !slices.Contains(may, field) && !reflect.DeepEqual(want[field], got[field]) {
			t.Errorf("%s: %v, want %v", field, got[field], want[field])
		}
	}
}

// The annotation proxy.istio.io/config changes the fields that it has, of a copy; and the
// proxy is told just that.
func FuzzProxyConfig(f *testing.F) {
	f.Add("discoveryAddress: istiod.other:15012\nproxyMetadata: {A: b}\nstatusPort: 15020")
	f.Add(`{"concurrency":2,"holdApplicationUntilProxyStarts":true,"image":{"imageType":"distroless"}}`)
	f.Add("proxyMetadata: {\"A\\\"\": \"}}\\n{{\"}\nterminationDrainDuration: 5s")
	in := injector(f, nil)
	before := proto.Clone(in.proxy)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := proxyConfig(in.proxy, text)
		if !proto.Equal(before, in.proxy) {
			t.Fatal("the mesh's own was changed")
		}
		if err != nil || text == "" {
			return
		}
		metadata, err := json.Marshal(map[string]any{"name": "web", "annotations": map[string]string{annotationConfig: text}})
		if err != nil || !utf8.ValidString(text) {
			t.Skip()
		}
		r, err := in.Inject(Request{Pod: podWith(string(metadata), plain), Namespace: "shop"})
		if err != nil {
			return
		}
		spec := child(objectOf(t, r.Pod), "spec")
		proxy := find(append(slices.Clone(spec["containers"].([]any)), spec["initContainers"].([]any)...), proxyContainer)
		told, _ := find(proxy["env"], "PROXY_CONFIG")["value"].(string)
		got := &meshconfig.ProxyConfig{}
		if err := protojson.Unmarshal([]byte(told), got); err != nil || !proto.Equal(got, c) {
			t.Errorf("%v: the proxy is told %s, want %v", err, told, c)
		}
	})
}

// What an installation's values are, a pod is injected or refused; it never has more
// containers than the templates.
func FuzzValues(f *testing.F) {
	f.Add(installedValues)
	f.Add(`{"global":{"proxy":{"logLevel":"debug","privileged":true,"resources":{}},"imagePullSecrets":["a"],"nativeSidecars":false}}`)
	f.Add("global:\n  hub: \"a\\nb\"\n  proxy: {clusterDomain: x, lifecycle: {preStop: {exec: {command: [a]}}}}")
	config := installed(f, nil)
	f.Fuzz(func(t *testing.T, values string) {
		in, err := New(Options{Config: config, Values: values})
		if err != nil {
			return
		}
		r, err := in.Inject(Request{Pod: podWith(`{"name":"web"}`, plain), Namespace: "shop"})
		if err != nil || r.Skipped != "" {
			return
		}
		checkInjected(t, objectOf(t, podWith(`{"name":"web"}`, plain)), objectOf(t, r.Pod))
		again, err := in.Inject(Request{Pod: r.Pod, Namespace: "shop"})
		if err != nil || again.Patch != nil {
			t.Errorf("injected again: %v, %s", err, again.Patch)
		}
	})
}
