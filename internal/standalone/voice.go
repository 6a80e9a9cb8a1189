package standalone

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
)

// Bounds of a voice.
const (
	maxSaid    = 10000 // things remembered, and so said
	maxUnsaid  = 256   // lines that wait for a slow reader; more are counted
	lastBreath = time.Second
	maxTold    = 20 // problems told of one state of the YAML
)

// voice tells people on stderr, each thing once. It never makes its caller wait: the
// command has the same stderr, and could fill it or stop the terminal.
type voice struct {
	quiet bool
	lines chan string
	done  chan struct{} // closed when everything was said

	mu     sync.Mutex
	said   map[string]bool
	unsaid int // lines lost since the last that was taken
	closed bool
	wrong  map[string]bool // what is wrong with the YAML, as it was told last
	broken map[string]bool // the files that have errors
}

func newVoice(out io.Writer, quiet bool) *voice {
	v := &voice{quiet: quiet, lines: make(chan string, maxUnsaid), done: make(chan struct{}), said: map[string]bool{}}
	go func() {
		defer close(v.done)
		for line := range v.lines {
			_, _ = io.WriteString(out, line) // nobody listens: nothing to do about it
		}
	}()
	return v
}

// say tells line, unless something was said for the same key before.
func (v *voice) say(key, line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.said[key] || len(v.said) >= maxSaid {
		return
	}
	if v.tell(line) {
		v.said[key] = true
	}
}

// tell hands a line over; false when it is lost. v.mu is held.
func (v *voice) tell(line string) bool {
	if v.closed {
		return false
	}
	text := "egret: " + line + "\n"
	if v.unsaid > 0 {
		text = fmt.Sprintf("egret: %d lines were not written, since stderr took none\n", v.unsaid) + text
	}
	select {
	case v.lines <- text:
		v.unsaid = 0
		return true
	default:
		v.unsaid++
		return false
	}
}

// close waits a moment for what is left to be said. A stderr that takes nothing is
// left alone.
func (v *voice) close() {
	v.mu.Lock()
	if !v.closed {
		v.closed = true
		close(v.lines)
	}
	v.mu.Unlock()
	timer := time.NewTimer(lastBreath)
	defer timer.Stop()
	select {
	case <-v.done:
	case <-timer.C:
	}
}

// problems tells what has become wrong with the YAML, and what is good again.
func (v *voice) problems(problems []istioapi.Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	wrong, broken := map[string]bool{}, map[string]bool{}
	told := 0
	for _, p := range problems {
		if p.Severity < istioapi.Warning {
			continue
		}
		line := p.String()
		if p.Severity == istioapi.Error {
			broken[p.File] = true
		} else {
			p.Line = 0 // it is the same warning when only lines above it changed
		}
		key := p.String()
		if !v.wrong[key] && !wrong[key] {
			if told++; told <= maxTold {
				v.tell(line)
			}
		}
		wrong[key] = true
	}
	if told > maxTold {
		v.tell(fmt.Sprintf("%d more problems; egret analyze tells them all", told-maxTold))
	}
	for _, file := range slices.Sorted(maps.Keys(v.broken)) {
		if !broken[file] {
			v.tell(file + ": the error is gone; what it says now is in force")
		}
	}
	v.wrong, v.broken = wrong, broken
}

// refused tells what a proxy cannot use of the configuration that it was given.
func (v *voice) refused(proxy string, err error) {
	line := fmt.Sprintf("config_rejected: the %s cannot use %v; what it had before stays in force", proxy, err)
	v.say(line, line)
}

// lost tells why the record has gaps.
func (v *voice) lost(err error) {
	line := fmt.Sprintf("access log: %v; lines are lost as long as it lasts", err)
	v.say(line, line)
}

// follow tells the denials of recorders until they are closed.
func (v *voice) follow(recorders ...*record.Recorder) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, r := range recorders {
		denials, _ := r.Denials() // ends when the recorder is closed
		wg.Go(func() {
			for d := range denials {
				if !v.quiet && !foreseen(d) {
					key := fmt.Sprintf("%s %s %s:%d", d.Reason, d.Protocol, d.Host, d.Port)
					v.say(key, string(d.Reason)+": "+d.Detail)
				}
			}
		})
	}
	return &wg
}

// foreseen says whether a denial has another one coming that tells more: a name that
// is not registered gets an address all the same, and the call to it is refused.
func foreseen(d record.Denial) bool {
	return d.Reason == reason.DNSNotInRegistry && (d.Method == "A" || d.Method == "AAAA")
}
