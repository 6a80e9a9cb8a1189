package config

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/xds"
)

const (
	// compressFrom is the size in bytes from which a body is kept compressed. Large ones
	// are lists of things that look alike, and become a tenth or less.
	compressFrom = 4 << 10
	// maxFailures bounds the resources whose refusal is remembered, maxFailureText the
	// words of one, in bytes.
	maxFailures    = 1000
	maxFailureText = 4 << 10
)

// keptTypes are the types whose bodies are kept. Endpoints are told from what became of
// them (upstream.Manager), and Envoy has no name table.
var keptTypes = []string{xds.ListenerType, xds.RouteType, xds.ClusterType, xds.VirtualHostType, xds.FilterChainType}

// Body is a resource as the control plane sent it, with what became of it.
type Body struct {
	Name    string
	Version string    // of the last good one
	Updated time.Time // when that was taken
	// Warming: it is good, but does not serve yet.
	Warming bool
	// Failure is the last refusal, until something newer was accepted; nil: none.
	Failure *Failure

	kept *kept // nil: no version was ever good
}

// Failure is a refused version of a resource.
type Failure struct {
	Version string
	Details string // what the NACK said
	At      time.Time
}

// kept is the body of an accepted resource.
type kept struct {
	version string
	updated time.Time
	size    int // 0: data is not compressed
	data    []byte
}

// Any is the resource; nil where no version was ever good.
func (b Body) Any(typeURL string) (*anypb.Any, error) {
	switch {
	case b.kept == nil:
		return nil, nil
	case b.kept.size == 0:
		return &anypb.Any{TypeUrl: typeURL, Value: b.kept.data}, nil
	}
	value := make([]byte, b.kept.size)
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(b.kept.data)), value); err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: typeURL, Value: value}, nil
}

// bodies keeps what the control plane sent for those who want to see it. Decoding does
// not need it, so it costs only where it is asked for (StoreOptions.KeepBodies). All
// methods are good on nil, and then keep nothing. The store's mu guards it.
type bodies struct {
	now      func() time.Time
	byType   map[string]map[string]*kept
	failures map[string]map[string]*Failure
	failed   int // number of failures
}

func newBodies(now func() time.Time) *bodies {
	b := &bodies{now: now, byType: map[string]map[string]*kept{}, failures: map[string]map[string]*Failure{}}
	for _, t := range keptTypes {
		b.byType[t], b.failures[t] = map[string]*kept{}, map[string]*Failure{}
	}
	return b
}

// took keeps an accepted resource.
func (b *bodies) took(typeURL string, r xds.Resource) {
	if b == nil || b.byType[typeURL] == nil {
		return
	}
	b.forgive(typeURL, r.Name)
	b.byType[typeURL][r.Name] = b.pack(r)
}

func (b *bodies) pack(r xds.Resource) *kept {
	k := &kept{version: r.Version, updated: b.now(), data: r.Body.GetValue()}
	if len(k.data) < compressFrom {
		return k
	}
	var buffer bytes.Buffer
	writer, err := flate.NewWriter(&buffer, flate.BestSpeed)
	if err != nil {
		return k
	}
	_, err = writer.Write(k.data)
	if err = errors.Join(err, writer.Close()); err == nil && buffer.Len() < len(k.data) {
		k.size, k.data = len(k.data), bytes.Clone(buffer.Bytes())
	}
	return k
}

// refused notes a refusal; what was kept stays.
func (b *bodies) refused(typeURL string, r xds.Resource, why error) {
	if b == nil || b.byType[typeURL] == nil {
		return
	}
	b.forgive(typeURL, r.Name)
	if b.failed >= maxFailures {
		return
	}
	text := why.Error()
	b.failures[typeURL][r.Name] = &Failure{Version: r.Version, Details: strings.ToValidUTF8(text[:min(len(text), maxFailureText)], "?"), At: b.now()}
	b.failed++
}

func (b *bodies) forgive(typeURL, name string) {
	if _, ok := b.failures[typeURL][name]; ok {
		delete(b.failures[typeURL], name)
		b.failed--
	}
}

// drop forgets a resource.
func (b *bodies) drop(typeURL, name string) {
	if b == nil || b.byType[typeURL] == nil {
		return
	}
	b.forgive(typeURL, name)
	delete(b.byType[typeURL], name)
}

// Bodies are the resources of a type as the control plane sent them, sorted by name:
// listeners, route configurations, clusters, virtual hosts or filter chains. There are
// none where StoreOptions.KeepBodies is not set.
func (s *Store) Bodies(typeURL string) []Body {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies == nil {
		return nil
	}
	out := make([]Body, 0, len(s.bodies.byType[typeURL]))
	for name, k := range s.bodies.byType[typeURL] {
		out = append(out, Body{
			Name: name, Version: k.version, Updated: k.updated, kept: k,
			Warming: s.warming(typeURL, name), Failure: s.bodies.failures[typeURL][name],
		})
	}
	for name, f := range s.bodies.failures[typeURL] {
		if s.bodies.byType[typeURL][name] == nil {
			out = append(out, Body{Name: name, Failure: f})
		}
	}
	slices.SortFunc(out, func(a, b Body) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// warming reports that a resource waits for others that it refers to.
func (s *Store) warming(typeURL, name string) bool {
	switch typeURL {
	case xds.ListenerType:
		state := s.listeners[name]
		return state != nil && state.serving != state.latest
	case xds.ClusterType:
		_, held := s.held.Get(Need{Kind: NeedCluster, Name: name})
		return s.ready[name] == nil && !held
	case xds.VirtualHostType, xds.FilterChainType:
		_, held := s.held.Get(needOf(kindOf(typeURL), name))
		return !held
	}
	return false
}
