package egretd

import "net/http"

// addWebhooks adds what the API server asks.
func addWebhooks(c *cluster, mux *http.ServeMux) {
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
}
