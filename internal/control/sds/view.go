package sds

import (
	"fmt"
	"slices"
	"sync"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/xds"
)

// Bounds of what one stream can ask for and have written into the log.
const (
	maxNames = 10_000
	maxTold  = 100
)

// view is what one stream gets: what its node gets, and the secrets that its caller may have.
type view struct {
	xds.View
	server *Server
	node   string
	who    Account
	proven bool

	mu    sync.Mutex // guards what follows
	names map[string]*wanted
	held  bool // the account and its Secrets
	stale bool // last has what is not wanted any more
	told  int  // lines in the log
	last  *moment
}

// wanted is a secret that the stream subscribed to.
type wanted struct {
	users    int
	outcome  outcome
	made     any // *pair or *authorities that resource was made from
	resource xds.Resource
	told     outcome // what was logged last
}

// Hold implements xds.View.
func (v *view) Hold(typeURL string, names []string) {
	v.View.Hold(typeURL, names)
	if typeURL != xds.SecretType || len(names) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range names {
		w := v.names[n]
		if w == nil {
			if len(v.names) >= maxNames {
				continue // as if there were none
			}
			w = &wanted{}
			v.names[n] = w
		}
		w.users++
	}
	if v.proven && !v.held {
		v.held = true
		v.server.access.hold(v.who)
		v.server.options.Secrets.Hold(v.who.Namespace)
	}
}

// Release implements xds.View.
func (v *view) Release(typeURL string, names []string) {
	v.View.Release(typeURL, names)
	if typeURL != xds.SecretType {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range names {
		if w := v.names[n]; w != nil {
			if w.users--; w.users == 0 {
				delete(v.names, n)
				v.stale = true
			}
		}
	}
	if len(v.names) == 0 {
		v.letGo()
	}
}

// letGo ends what Hold began; v.mu is held.
func (v *view) letGo() {
	if v.held {
		v.held = false
		v.server.access.release(v.who)
		v.server.options.Secrets.Release(v.who.Namespace)
	}
}

// Leave implements xds.View.
func (v *view) Leave() {
	v.View.Leave()
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.names)
	v.letGo()
}

// State implements xds.View.
func (v *view) State() (xds.State, error) {
	base, err := v.View.State()
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := v.look()
	if v.last == nil || v.stale || len(changed) > 0 || v.last.base != base.Sequence() {
		v.last, v.stale = v.last.next(base.Sequence(), changed, v.names), false
	}
	return &state{base, v.last}, nil
}

// look judges each secret anew, and names those that differ; v.mu is held.
func (v *view) look() (changed []string) {
	for text, w := range v.names {
		before, made := w.outcome.state, w.made
		w.outcome, w.made = v.judge(text)
		if w.outcome != w.told && w.outcome != (outcome{state: waiting}) {
			v.tell(text, w)
		}
		if w.made == made && w.outcome.state == before {
			continue
		}
		w.resource = xds.Resource{}
		if w.made != nil && w.outcome.state == given {
			r, err := resource(text, w.made)
			if err != nil {
				w.outcome, w.made = outcome{malformed, err.Error()}, nil
			}
			w.resource = r
		}
		changed = append(changed, text)
	}
	return changed
}

// judge says what of the Secret the caller gets: nil is nothing.
func (v *view) judge(text string) (outcome, any) {
	if !v.proven {
		return outcome{state: unproven}, nil
	}
	n, err := parseName(text, v.who.Namespace)
	switch {
	case err != nil:
		return outcome{badName, err.Error()}, nil
	case n.namespace != v.who.Namespace:
		return outcome{otherNamespace, fmt.Sprintf("the proxy is of %s", v.who.Namespace)}, nil
	}
	// Authorities are no secret within their namespace, which is Istio's rule too.
	if !n.authorities {
		allowed, known, why := v.server.access.may(v.who)
		if !known {
			return outcome{waiting, why}, nil
		}
		if !allowed {
			return outcome{notAllowed, fmt.Sprintf("the service account %s may not list secrets in %s (RBAC) %s", v.who.Name, v.who.Namespace, why)}, nil
		}
	}
	return v.find(n)
}

// find is the part of the Secret that a name stands for.
func (v *view) find(n name) (outcome, any) {
	s, known := v.server.options.Secrets.Secret(n.namespace, n.secret)
	if n.authorities && known && s == nil {
		n.secret = n.secret[:len(n.secret)-len(istioapi.AuthoritiesSuffix)]
		s, known = v.server.options.Secrets.Secret(n.namespace, n.secret)
	}
	where := fmt.Sprintf("secret %s/%s", n.namespace, n.secret)
	switch {
	case !known:
		return outcome{state: waiting}, nil
	case s == nil:
		return outcome{notFound, where}, nil
	}
	problem := s.pairProblem
	var made any
	if n.authorities {
		problem = s.authoritiesProblem
		if s.authorities != nil {
			made = s.authorities
		}
	} else if s.pair != nil {
		made = s.pair
	}
	switch {
	case made == nil:
		return outcome{malformed, fmt.Sprintf("%s: %v", where, problem)}, nil
	case problem != nil:
		return outcome{given, fmt.Sprintf("%s: %v; the last good version stays in force", where, problem)}, made
	}
	return outcome{state: given}, made
}

// tell logs what became of a secret, once.
func (v *view) tell(text string, w *wanted) {
	before := w.told
	w.told = w.outcome
	if w.outcome.state != given || w.outcome.why != "" {
		v.server.counts.failed(w.outcome.state)
	}
	if v.told++; v.told > maxTold {
		return
	}
	log := v.server.options.Logger.With("node", v.node, "secret", text)
	switch {
	case w.outcome.state == given && w.outcome.why != "":
		log.Warn("a Secret cannot be used", "reason", given.String(), "detail", w.outcome.why)
	case w.outcome.state != given:
		log.Warn("a certificate is not given to a proxy", "reason", w.outcome.state.String(), "detail", w.outcome.why)
	case before != (outcome{}) && before != w.outcome:
		log.Info("a certificate is given now")
	}
}

// state is a view at one moment, with what it gets without secrets. Only who looks at it keeps
// that: a stream that is slow must not hold what others have replaced.
type state struct {
	xds.State
	*moment
}

// moment is what a view knows of secrets at one time.
type moment struct {
	sequence, base uint64 // of the view's state, and of the one without secrets
	secrets        map[string]xds.Resource
	awaited        map[string]bool
	steps          []step // the last ones, the newest last
}

// step is what led to a state from the one before.
type step struct {
	before     uint64 // the sequence of the state before
	baseBefore uint64
	changed    []string
}

// maxSteps bounds the states that a stream can be behind and still know what changed.
const maxSteps = 8

// next is the moment after m, which may be nil.
func (m *moment) next(base uint64, changed []string, names map[string]*wanted) *moment {
	n := &moment{sequence: 1, base: base}
	if len(names) > 0 {
		n.secrets, n.awaited = map[string]xds.Resource{}, map[string]bool{}
	}
	for text, w := range names {
		if w.resource.Body != nil {
			n.secrets[text] = w.resource
		} else if w.outcome.state == waiting {
			n.awaited[text] = true
		}
	}
	if m != nil {
		n.sequence = m.sequence + 1
		kept := m.steps[max(0, len(m.steps)+1-maxSteps):]
		n.steps = append(slices.Clone(kept), step{m.sequence, m.base, changed})
	}
	return n
}

// Sequence implements xds.State.
func (s *state) Sequence() uint64 { return s.sequence }

// All implements xds.State. Secrets are given by name only.
func (s *state) All(typeURL string) map[string]xds.Resource {
	if typeURL == xds.SecretType {
		return nil
	}
	return s.State.All(typeURL)
}

// Find implements xds.State.
func (s *state) Find(typeURL, name string) (xds.Resource, bool) {
	if typeURL == xds.SecretType {
		r, ok := s.secrets[name]
		return r, ok
	}
	return s.State.Find(typeURL, name)
}

// Awaits implements xds.Awaiting.
func (s *state) Awaits(typeURL, name string) bool {
	return typeURL == xds.SecretType && s.awaited[name]
}

// Changed implements xds.State.
func (s *state) Changed(typeURL string, since uint64) ([]string, bool) {
	if since == s.sequence {
		return nil, true
	}
	at := slices.IndexFunc(s.steps, func(one step) bool { return one.before == since })
	if at < 0 {
		return nil, false
	}
	if typeURL != xds.SecretType {
		return s.State.Changed(typeURL, s.steps[at].baseBefore)
	}
	var out []string
	for _, one := range s.steps[at:] {
		for _, n := range one.changed {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out, true
}
