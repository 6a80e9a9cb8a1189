package egretd

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"

	"github.com/egret-mesh/egret/internal/control/discovery"
)

// addDebug adds what istiod tells at /debug: syncz (how far each proxy is), adsz (who is
// connected), registryz (services), endpointz, and configz (Istio's objects).
func addDebug(mux *http.ServeMux, control *discovery.Server) {
	for name, tell := range map[string]func() (any, error){
		"syncz":     func() (any, error) { return control.Status(), nil },
		"adsz":      func() (any, error) { return control.Clients(), nil },
		"registryz": func() (any, error) { return control.Registry(), nil },
		"endpointz": func() (any, error) { return control.Endpoints(), nil },
		"configz":   func() (any, error) { return control.Configs() },
	} {
		mux.HandleFunc("GET /debug/"+name, func(w http.ResponseWriter, _ *http.Request) {
			what, err := tell()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			_ = e.Encode(what) // the client went away
		})
	}
}

// locally lets /debug be asked only from the pod itself, as kubectl port-forward does: it
// has the policy of all namespaces, and in a cluster every pod reaches the port. (Istio
// takes a service account's token from elsewhere; here nobody else is let in.)
func locally(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if strings.HasPrefix(r.URL.Path, "/debug/") && (err != nil || !peer.Addr().Unmap().IsLoopback()) {
			http.Error(w, "/debug is told only to the pod itself: use kubectl port-forward", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
