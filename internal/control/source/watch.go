package source

import (
	"context"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// safetyNet is the time between looks at the files where changes are notified.
const safetyNet = 30 * time.Second

// run watches the files until ctx ends.
func (s *Watcher) run(ctx context.Context) {
	var watcher *fsnotify.Watcher
	if !s.options.NoNotify {
		var err error
		if watcher, err = fsnotify.NewWatcher(); err != nil {
			s.options.Logger.Warn("changes of files are not notified; looking at intervals", "error", err, "interval", s.options.Poll)
		}
	}
	w := &watch{source: s, watcher: watcher, watched: make(map[*os.File]string)}
	if watcher != nil {
		defer watcher.Close()
		w.events, w.errors = watcher.Events, watcher.Errors
	}
	w.run(ctx)
}

// watch is the state of a Watcher at work. Its watcher is nil where only polling is possible.
type watch struct {
	source  *Watcher
	watcher *fsnotify.Watcher
	events  chan fsnotify.Event
	errors  chan error
	watched map[*os.File]string // the path each directory was watched by
	blind   bool                // a directory cannot be watched
}

func (w *watch) run(ctx context.Context) {
	options := w.source.options
	w.look()
	ticker := time.NewTicker(w.interval())
	defer ticker.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	var latest time.Time // when a scan must be done; zero: nothing has happened
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.events:
			now := time.Now()
			if latest.IsZero() {
				latest = now.Add(options.MaxDelay)
			}
			quiet.Reset(min(options.Quiet, latest.Sub(now)))
			if e.Has(fsnotify.Rename) || e.Has(fsnotify.Remove) {
				// The library stops watching a directory that was renamed.
				maps.DeleteFunc(w.watched, func(_ *os.File, path string) bool { return path == e.Name })
			}
		case err := <-w.errors:
			options.Logger.Warn("notification of file changes", "error", err)
			quiet.Reset(options.Quiet)
		case <-quiet.C:
			latest = time.Time{}
			w.look()
			ticker.Reset(w.interval())
		case <-ticker.C:
			w.look()
			ticker.Reset(w.interval())
		}
	}
}

// look reads what has changed. A directory that is watched only now may have
// changed before it was, so then it looks again.
func (w *watch) look() {
	for range 3 {
		w.source.scan(false)
		if w.watcher == nil || !w.sync() {
			return
		}
	}
}

// interval is the time to the next look without a notification. That a directory is
// removed is not notified while it is held open, and only an empty one can be.
func (w *watch) interval() time.Duration {
	if w.watcher == nil || w.blind || w.source.hasEmpty() {
		return w.source.options.Poll
	}
	return max(w.source.options.Poll, safetyNet)
}

// sync watches the directories that are read from now; true when one was added.
func (w *watch) sync() bool {
	wanted := w.source.directories()
	maps.DeleteFunc(w.watched, func(d *os.File, path string) bool {
		if slices.Contains(wanted, d) {
			return false
		}
		_ = w.watcher.Remove(path) // fails when the library has done so itself
		return true
	})
	added, blind := false, false
	for _, d := range wanted {
		if w.watched[d] != "" {
			continue
		}
		path := descriptorPath(d)
		if err := w.watcher.Add(path); err != nil {
			blind = true
			if !w.blind {
				w.source.options.Logger.Warn("cannot watch a directory; looking at intervals", "error", err, "interval", w.source.options.Poll)
			}
			continue
		}
		w.watched[d], added = path, true
	}
	w.blind = blind
	return added
}

// hasEmpty says whether there is a directory with nothing to read.
func (s *Watcher) hasEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.roots, func(r *root) bool { return r.empty })
}

// directories are the open directories that files are read from.
func (s *Watcher) directories() []*os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*os.File
	for _, r := range s.roots {
		out = append(out, r.self)
		for _, p := range r.pins {
			out = append(out, p.self)
		}
	}
	return out
}
