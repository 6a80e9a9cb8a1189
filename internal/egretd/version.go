package egretd

import (
	"encoding/json"
	"net/http"
	"runtime/debug"
)

// build is what istioctl version asks each istiod for, as Istio's pkg/version has it.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Golang   string `json:"golang_version"`
	Status   string `json:"status"`
	Tag      string `json:"tag"`
}

// tellVersion answers with the version that Go's linker wrote into the program.
func tellVersion(w http.ResponseWriter, _ *http.Request) {
	b := build{Version: "unknown", Revision: "unknown", Status: "Clean"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Golang = info.GoVersion
		if info.Main.Version != "" {
			b.Version, b.Tag = info.Main.Version, info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				b.Status = "Modified"
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]build{"clientVersion": b}) // the client went away
}
