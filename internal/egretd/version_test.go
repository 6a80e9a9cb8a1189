package egretd

import (
	"encoding/json"
	"net/http/httptest"
	"runtime"
	"testing"
)

// TestVersion: istioctl takes the answer only where clientVersion.version is not empty.
func TestVersion(t *testing.T) {
	w := httptest.NewRecorder()
	tellVersion(w, httptest.NewRequest("GET", "/version", nil))
	var got struct {
		ClientVersion struct {
			Version       string
			GolangVersion string `json:"golang_version"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.ClientVersion.Version == "" || got.ClientVersion.GolangVersion != runtime.Version() {
		t.Errorf("got %+v from %s", got, w.Body)
	}
}
