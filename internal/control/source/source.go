// Package source says where objects come from: files and directories, read and
// watched. Whatever is written there, the last good version of each object stays
// in force until a good one takes its place or the object is deleted.
//
// Every path given is opened once, as a directory descriptor, and always read
// through it: renaming a folder above cannot put other files in its place.
//
// It must not know what objects mean: decoding is istioapi's, the rest mesh's.
package source

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// State is everything that was read, at one moment. It is immutable.
type State struct {
	// Objects have Order by path, then place in the file, and are unique.
	Objects  istioapi.Objects
	Problems []istioapi.Problem
	// Sequence counts up with each State; the first has 1.
	Sequence uint64
}

// Codes of problems that reading files adds to istioapi's.
const (
	// CodeUnreadable: a file or directory that cannot be read now.
	CodeUnreadable = "unreadable"
	// CodeGone: a path that was given is not there any more.
	CodeGone = "gone"
	// CodeSkipped: something in a directory that is not read.
	CodeSkipped = "skipped"
	// CodeEmpty: a directory that has nothing to read.
	CodeEmpty = "empty_folder"
	// CodeHardLinked: a file that can be written through another name.
	CodeHardLinked = "hard_linked"
)

// Options for Files. The zero value is good.
type Options struct {
	Logger *slog.Logger // default: none
	// Quiet is how long nothing must change before files are read again (default
	// 50 ms), MaxDelay the longest time that a stream of changes can put it off
	// (default 200 ms).
	Quiet, MaxDelay time.Duration
	// Poll is the time between looks at the files where changes are not
	// notified (default 1 s). Where they are, the look every 30 s is a safety net
	// for network file systems.
	Poll time.Duration
	// NoNotify only polls.
	NoNotify bool
	// Trusted says whether nobody whom the objects govern can have written the file at
	// this path (absolute, symbolic links resolved). It is asked when another file
	// takes the place of one that was given by its own path, or that a link leads to
	// outside of the given directories; when it says no, the last good version stays in
	// force. This is for callers that write-protect the files that Protect lists, but
	// not all the folders around them. Nil trusts every file.
	Trusted func(path string) bool
}

// Watcher watches a set of files and directories. Its methods can be used at the same time.
type Watcher struct {
	options Options
	roots   []*root
	current atomic.Pointer[State]

	mu          sync.Mutex // guards what follows
	files       map[string]*file
	rootErrors  string // of the last scan, to see that they changed
	subscribers []chan *State
	links       []string
	protect     []Protected
	closed      bool

	stop context.CancelFunc // of the goroutine that watches; nil: there is none
	done chan struct{}
}

// Read opens and reads the paths once; see Files.
func Read(paths []string) (istioapi.Objects, []istioapi.Problem, error) {
	w, err := open(paths, Options{})
	if err != nil {
		return istioapi.Objects{}, nil, err
	}
	state := w.Current()
	return state.Objects, state.Problems, w.Close()
}

// Files opens, reads and watches the paths until Close. A file can have any name. Of a directory the
// files *.yaml, *.yml and *.json are read, but no hidden ones (".x") or editor's
// leftovers ("x~", "#x#"); folders in it are not, which is told as an Info problem.
// Symbolic links are followed, wherever they lead to; one that leads out of the
// directory is resolved once, and again when the link itself is changed (so a link
// inside the path that it names can be changed without effect).
//
// It fails when a path cannot be opened or is neither file nor directory; anything
// wrong with the contents is in the State's Problems. Where the system cannot notify
// changes (too many watches, no inotify), it looks every Options.Poll.
func Files(paths []string, options Options) (*Watcher, error) {
	s, err := open(paths, options)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan struct{})
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
	return s, nil
}

// open reads without watching.
func open(paths []string, options Options) (*Watcher, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&options.Quiet, 50*time.Millisecond)
	setDefault(&options.MaxDelay, 200*time.Millisecond)
	setDefault(&options.Poll, time.Second)
	s := &Watcher{options: options, files: make(map[string]*file)}
	var failed []string
	for _, p := range paths {
		r, err := openRoot(p)
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		s.roots = append(s.roots, r)
	}
	if len(failed) > 0 {
		return nil, errors.Join(errors.New(strings.Join(failed, "; ")), s.Close())
	}
	s.scan(true)
	return s, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Current is the newest State; never nil.
func (s *Watcher) Current() *State { return s.current.Load() }

// Subscribe gives the current State at once and then each new one. A slow reader
// misses States in between, never the newest. The function ends the subscription
// and closes the channel.
func (s *Watcher) Subscribe() (<-chan *State, func()) {
	ch := make(chan *State, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	ch <- s.current.Load()
	s.subscribers = append(s.subscribers, ch)
	return ch, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subscribers = slices.DeleteFunc(s.subscribers, func(c chan *State) bool { return c == ch })
		close(ch)
	})
}

// publish replaces what a subscriber has not read yet; s.mu is held.
func (s *Watcher) publish(state *State) {
	s.current.Store(state)
	for _, ch := range s.subscribers {
		select {
		case <-ch:
		default:
		}
		ch <- state
	}
}

// Reload reads what has changed now, without waiting for a notification.
func (s *Watcher) Reload() { s.scan(false) }

// Close ends the watching and closes the descriptors; the last State stays.
func (s *Watcher) Close() error {
	if s.stop != nil {
		s.stop()
		<-s.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, r := range s.roots {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}

// trusted asks Options.Trusted about an open file.
func (s *Watcher) trusted(f *os.File) bool {
	if s.options.Trusted == nil {
		return true
	}
	path, err := where(f)
	return err == nil && s.options.Trusted(path)
}
