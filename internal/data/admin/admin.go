// Package admin is Envoy's admin interface of a proxy, as Istio's tools use it: what the
// proxy was configured with, what it is doing, and a few commands. The JSON is that of
// Envoy's admin.v3 messages; see
// https://www.envoyproxy.io/docs/envoy/latest/operations/admin.
//
// It only tells, and hands commands on: it must not decide, keep state of its own, or show
// a private key. Whoever can connect may read all and stop the proxy, as in Envoy, so the
// address belongs on loopback.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-mesh/egret/internal/data/instance"
)

// Options of New. Proxy, Bootstrap and Log are needed.
type Options struct {
	Proxy *instance.Instance // made with KeepBodies
	// Bootstrap is what the proxy was started with.
	Bootstrap *bootstrapv3.Bootstrap
	Version   string // of the program
	// Names says that the proxy answers the workload's DNS: it is LIVE when it has the
	// name table, too.
	Names bool
	Log   *slog.Logger
	// Level is what /logging changes; nil: it cannot.
	Level *slog.LevelVar
	// DrainTime is how long /drain_listeners?graceful waits before listeners close.
	DrainTime time.Duration
	// Quit ends the program; nil: /quitquitquit is refused.
	Quit func()
}

// Admin serves the interface.
type Admin struct {
	options  Options
	started  time.Time
	metrics  prometheus.Gatherer
	commands []command
	// heavy bounds the answers that are large and are made at the same time.
	heavy chan struct{}
	// running ends with Serve; drains are the graceful ones that wait.
	running context.Context
	drains  sync.WaitGroup
}

// command is one path of the interface.
type command struct {
	path, help string
	mutates    bool // needs POST, as in Envoy
	params     []param
	serve      func(w http.ResponseWriter, r *http.Request) error
}

type param struct{ name, help string }

// Bounds on what is asked for.
const (
	maxRequestHead = 16 << 10
	maxHeavy       = 2 // large answers at a time; others wait
	maxPattern     = 1 << 10
	lastAnswers    = time.Second // for answers under way at the end
)

// refusal is an answer that is not 200.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// New makes an Admin; Serve runs it.
func New(o Options) (*Admin, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(o.Proxy.Recorder().Metrics()); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	a := &Admin{
		options: o, started: time.Now(), metrics: registry,
		heavy: make(chan struct{}, maxHeavy), running: context.Background(),
	}
	a.commands = a.list()
	slices.SortFunc(a.commands, func(x, y command) int { return strings.Compare(x.path, y.path) })
	return a, nil
}

func (a *Admin) list() []command {
	format := param{"format", "json, or text where it is not given"}
	filter := param{"filter", "Regular expression (RE2) that names must have a match for"}
	prometheusHandler := promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{})
	return []command{
		{path: "/certs", help: "print certs on machine", serve: a.certs},
		{path: "/clusters", help: "upstream cluster status", params: []param{filter, format}, serve: a.clusters},
		{path: "/config_dump", help: "dump current configs", serve: a.configDump, params: []param{
			{"resource", "The repeated field of a dump to print, such as dynamic_listeners"},
			{"mask", "The fields to print (google.protobuf.FieldMask); with resource, of each element"},
			{"name_regex", "Regular expression (RE2) that resources' names must have a match for"},
			{"include_eds", "Endpoints too"},
		}},
		{path: "/drain_listeners", help: "drain listeners", mutates: true, serve: a.drainListeners, params: []param{
			{"graceful", "Connections are asked to end, and listeners close after the drain time"},
			{"skip_exit", "Connections are asked to end, and listeners stay"},
			{"inboundonly", "Only listeners whose traffic_direction is INBOUND"},
		}},
		{path: "/help", help: "print out list of admin commands", serve: a.help},
		{path: "/listeners", help: "print listener info", params: []param{format}, serve: a.listeners},
		{path: "/logging", help: "query/change logging levels", mutates: true, serve: a.logging, params: []param{
			{"level", "The level of all loggers"},
			{"paths", "Levels by logger: name:level,..."},
		}},
		{path: "/quitquitquit", help: "exit the server", mutates: true, serve: a.quit},
		{path: "/ready", help: "print server state, return 200 if LIVE, otherwise return 503", serve: a.ready},
		{path: "/server_info", help: "print server version/status information", serve: a.serverInfo},
		{path: "/stats", help: "print server stats", serve: a.stats, params: []param{
			filter, format, {"usedonly", "Only what has counted something"},
		}},
		{path: "/stats/prometheus", help: "print server stats in prometheus format", serve: func(w http.ResponseWriter, r *http.Request) error {
			prometheusHandler.ServeHTTP(w, r)
			return nil
		}},
	}
}

// ServeHTTP answers one request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-cache, max-age=0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var err error
	switch c := a.find(r.URL.Path); {
	case c == nil:
		err = refuse(http.StatusNotFound, "invalid path. %s", a.helpText())
	case c.mutates && r.Method != http.MethodPost:
		err = refuse(http.StatusMethodNotAllowed, "Method %s not allowed, POST required.", r.Method)
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		err = refuse(http.StatusMethodNotAllowed, "Method %s not allowed.", r.Method)
	default:
		err = c.serve(w, r)
	}
	var refused *refusal
	var half broken
	switch {
	case errors.As(err, &half):
		a.options.Log.Warn("an answer of the admin interface was broken off", "path", r.URL.Path, "error", half.error)
		a.hangUp(w)
	case errors.As(err, &refused):
		http.Error(w, refused.text, refused.status)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// hangUp closes the connection of an answer, so that it is not taken for complete.
func (a *Admin) hangUp(w http.ResponseWriter) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now()) // or it is gone already
	_ = control.Flush()
}

func (a *Admin) find(path string) *command {
	i := slices.IndexFunc(a.commands, func(c command) bool { return c.path == path })
	if i < 0 {
		return nil
	}
	return &a.commands[i]
}

// Serve serves until ctx ends; then it returns nil.
func (a *Admin) Serve(ctx context.Context, ln net.Listener) error {
	a.running = ctx
	defer a.drains.Wait()
	server := &http.Server{
		Handler: a, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: maxRequestHead,
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutDown(server)
	})
	if err := server.Serve(ln); stop() {
		return err
	}
	<-ended
	return nil
}

// shutDown lets answers end, that of /quitquitquit too, but not for long.
func shutDown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}

// begin waits for its turn to make a large answer; done ends it.
func (a *Admin) begin(r *http.Request) (done func(), err error) {
	select {
	case a.heavy <- struct{}{}:
		return func() { <-a.heavy }, nil
	case <-r.Context().Done():
		return nil, refuse(http.StatusServiceUnavailable, "too many large answers are being made")
	}
}

func (a *Admin) helpText() string {
	var b strings.Builder
	b.WriteString("admin commands are:\n")
	for _, c := range a.commands {
		method := ""
		if c.mutates {
			method = " (POST)"
		}
		fmt.Fprintf(&b, "  %s%s: %s\n", c.path, method, c.help)
		for _, p := range c.params {
			fmt.Fprintf(&b, "      %s: %s\n", p.name, p.help)
		}
	}
	return b.String()
}

func (a *Admin) help(w http.ResponseWriter, _ *http.Request) error {
	_, err := w.Write([]byte(a.helpText()))
	return err
}
