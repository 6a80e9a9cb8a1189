package internet

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxFlaky bounds the keys that a site remembers for /flaky.
const maxFlaky = 1000

// page is what a site answers: every path with who was asked and how, and
//
//	POST             the body that was sent
//	/headers         the request's headers, one a line, sorted
//	/slow            nothing, until the client goes away
//	/flaky/KEY       503 the first time that a KEY is asked for, 200 then
type page struct {
	host string

	mu    sync.Mutex
	flaky map[string]bool
}

func newPage(host string) *page { return &page{host: host, flaky: map[string]bool{}} }

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", p.host)
	w.Header().Set("X-Powered-By", "the simulated internet")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodPost {
		_, _ = io.Copy(w, io.LimitReader(r.Body, 64<<20))
		return
	}
	switch {
	case r.URL.Path == "/slow":
		<-r.Context().Done()
		return
	case r.URL.Path == "/headers":
		_, _ = io.WriteString(w, headerLines(r))
		return
	case strings.HasPrefix(r.URL.Path, "/flaky/") && p.fails(r.URL.Path):
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	body := fmt.Sprintf("This is %s. You asked for %s %s of %s.\n", p.host, r.Method, r.URL.RequestURI(), r.Host)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = io.WriteString(w, body)
}

// fails is true the first time that it is asked about a key.
func (p *page) fails(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flaky[key] || len(p.flaky) >= maxFlaky {
		return false
	}
	p.flaky[key] = true
	return true
}

// headerLines are a request's headers with the Host.
func headerLines(r *http.Request) string {
	lines := []string{"Host: " + r.Host}
	for name, values := range r.Header {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
