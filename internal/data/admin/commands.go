package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/data/proxy"
)

// loggerName is the one logger that there is.
const loggerName = "egret"

// levels are Envoy's words, from the most talkative on.
var levels = []struct {
	word  string
	level slog.Level
}{
	{"trace", slog.LevelDebug - 4}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warning", slog.LevelWarn},
	{"error", slog.LevelError}, {"critical", slog.LevelError + 4}, {"off", slog.LevelError + 8},
}

func levelWord(l slog.Level) string {
	word := levels[0].word
	for _, known := range levels {
		if l >= known.level {
			word = known.word
		}
	}
	return word
}

// logging tells the level of the log, or changes it.
func (a *Admin) logging(w http.ResponseWriter, r *http.Request) error {
	if a.options.Level == nil {
		return refuse(http.StatusNotImplemented, "the level of the log is fixed")
	}
	if err := setLevel(a.options.Level, r.URL.Query()); err != nil {
		words := make([]string, len(levels))
		for i, l := range levels {
			words[i] = l.word
		}
		return refuse(http.StatusBadRequest, "error: %v\n\nusage: /logging?<name>=<level> (change single level)\n"+
			"usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"+
			"usage: /logging?level=<level> (change all levels)\nlevels: %s", err, strings.Join(words, " "))
	}
	_, err := fmt.Fprintf(w, "active loggers:\n  %s: %s\n\n", loggerName, levelWord(a.options.Level.Level()))
	return err
}

// setLevel does what a query of /logging says.
func setLevel(to *slog.LevelVar, query map[string][]string) error {
	wanted := map[string]string{} // logger -> level; "": all
	for key, values := range query {
		switch {
		case values[0] == "" && (key == "level" || key == "paths"): // as from a form
		case key == "level":
			wanted[""] = values[0]
		case key == "paths":
			for _, pair := range strings.Split(values[0], ",") {
				name, level, _ := strings.Cut(pair, ":")
				wanted[name] = level
			}
		default:
			wanted[key] = values[0]
		}
	}
	for name, word := range wanted {
		if name != "" && name != loggerName {
			return fmt.Errorf("unknown logger name %q", name)
		}
		i := slices.IndexFunc(levels, func(l struct {
			word  string
			level slog.Level
		}) bool {
			return l.word == word
		})
		if i < 0 {
			return fmt.Errorf("unknown logger level %q", word)
		}
		to.Set(levels[i].level)
	}
	return nil
}

// drainListeners stops accepting, for good. What is live goes on, or with graceful is
// asked to end.
func (a *Admin) drainListeners(w http.ResponseWriter, r *http.Request) error {
	server := a.options.Proxy.Server()
	if server == nil {
		return refuse(http.StatusServiceUnavailable, "the proxy does not serve yet")
	}
	query := r.URL.Query()
	inboundOnly, skipExit := query.Has("inboundonly"), query.Has("skip_exit")
	switch {
	case skipExit:
		server.Retire(inboundOnly)
	case query.Has("graceful"):
		server.Retire(inboundOnly)
		a.drains.Go(func() { stopLater(a.running, server, inboundOnly, a.options.DrainTime) })
	default:
		server.StopListeners(inboundOnly)
	}
	_, err := w.Write([]byte("OK\n"))
	return err
}

func stopLater(ctx context.Context, server *proxy.Proxy, inboundOnly bool, after time.Duration) {
	timer := time.NewTimer(max(after, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		server.StopListeners(inboundOnly)
		server.DrainConnections(inboundOnly) // those that came meanwhile
	case <-ctx.Done():
	}
}

func (a *Admin) quit(w http.ResponseWriter, _ *http.Request) error {
	if a.options.Quit == nil {
		return refuse(http.StatusNotImplemented, "this program does not end so")
	}
	_, err := w.Write([]byte("OK\n"))
	a.options.Quit()
	return err
}
