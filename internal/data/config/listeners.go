package config

import (
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// Listeners and the route configurations that they name: a listener serves when it has all.

type listenerState struct {
	latest  *resource.Listener
	serving *resource.Listener // nil: never complete yet
}

func (s *Store) putListener(name string, a *anypb.Any) error {
	state := s.listeners[name]
	var previous *resource.Listener
	if state != nil {
		previous = state.latest
	}
	l, err := s.decoder(name).NextListener(previous, a)
	if err == nil {
		err = sameName(name, l.Name)
	}
	if err != nil {
		if state != nil && state.latest.Rejected == "" {
			return err // the last good version stays
		}
		if l = resource.RejectedListener(a, err); l == nil || l.Name != name {
			return err
		}
	}
	if state == nil {
		state = &listenerState{}
		s.listeners[name] = state
	}
	state.latest = l
	return err
}

func (s *Store) removeListeners(names []string) {
	for _, name := range names {
		if state := s.listeners[name]; state != nil {
			s.changed.listeners = s.changed.listeners || state.serving != nil
			delete(s.listeners, name)
		}
	}
}

func (s *Store) putRoute(name string, a *anypb.Any) error {
	rc, err := s.decoder(name).NextRouteConfiguration(s.routes[name], a)
	if err == nil {
		err = sameName(name, rc.Name)
	}
	if err != nil {
		if s.routes[name] == nil {
			s.badRoutes[name] = true
		}
		return err
	}
	delete(s.badRoutes, name)
	delete(s.goneRoutes, name)
	s.routes[name] = rc
	s.changed.routes = true
	return nil
}

// removeRoutes drops what no listener names. Like Envoy it keeps a route
// configuration that a listener still names: routing goes on with the last one.
func (s *Store) removeRoutes(names []string) {
	for _, name := range names {
		delete(s.badRoutes, name)
		if s.routes[name] != nil {
			s.goneRoutes[name] = true
		}
	}
}

// routeNames calls yield for each route configuration that a listener names.
func routeNames(l *resource.Listener, yield func(string)) {
	if l == nil {
		return
	}
	one := func(chain *resource.FilterChain) {
		if chain != nil && chain.HTTP != nil && chain.HTTP.RouteConfigName != "" {
			yield(chain.HTTP.RouteConfigName)
		}
	}
	for _, chain := range l.FilterChains {
		one(chain)
	}
	one(l.DefaultFilterChain)
}

// complete reports whether each route configuration has arrived, good or refused, and
// each secret.
func (s *Store) complete(l *resource.Listener) bool {
	all := !s.listenerAwaits(l)
	routeNames(l, func(name string) { all = all && (s.routes[name] != nil || s.badRoutes[name]) })
	return all
}

// warm lets complete listeners serve.
func (s *Store) warm() {
	for _, state := range s.listeners {
		if state.serving != state.latest && s.complete(state.latest) {
			state.serving = state.latest
			s.changed.listeners = true
		}
	}
}

func (s *Store) neededRoutes() map[string]bool {
	needed := map[string]bool{}
	for _, state := range s.listeners {
		routeNames(state.latest, func(name string) { needed[name] = true })
		routeNames(state.serving, func(name string) { needed[name] = true })
	}
	return needed
}
