package egretd

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestDebugIsLocal(t *testing.T) {
	h := locally(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, test := range []struct {
		peer, path string
		want       int
	}{
		{"127.0.0.1:1", "/debug/configz", 200},
		{"[::1]:1", "/debug/configz", 200},
		{"[::ffff:127.0.0.1]:1", "/debug/configz", 200},
		{"10.1.0.1:1", "/debug/configz", 403},
		{"[::ffff:10.1.0.1]:1", "/debug/configz", 403},
		{"", "/debug/configz", 403},
		{"10.1.0.1:1", "/metrics", 200},
		{"10.1.0.1:1", "/ready", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, test.path, nil)
		r.RemoteAddr = test.peer
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s asks for %s: %d, want %d", test.peer, test.path, w.Code, test.want)
		}
	}
}
