package xdsgen

import (
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// headerEdits are Istio's header operations. A Host (or :authority) that is set or
// added for the request is a rewrite of the authority.
type headerEdits struct {
	requestAdd, responseAdd       []*corev3.HeaderValueOption
	requestRemove, responseRemove []string
	authority                     string
}

func editsOf(h *networking.Headers) headerEdits {
	var e headerEdits
	if h == nil {
		return e
	}
	setOptions, setAuthority := headerOptions(h.GetRequest().GetSet(), corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, true)
	addOptions, addAuthority := headerOptions(h.GetRequest().GetAdd(), corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, true)
	e.requestAdd = append(setOptions, addOptions...)
	if e.authority = setAuthority; e.authority == "" {
		e.authority = addAuthority
	}
	setOptions, _ = headerOptions(h.GetResponse().GetSet(), corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, false)
	addOptions, _ = headerOptions(h.GetResponse().GetAdd(), corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, false)
	e.responseAdd = append(setOptions, addOptions...)
	e.requestRemove = slices.DeleteFunc(slices.Clone(h.GetRequest().GetRemove()), isAuthority)
	e.responseRemove = slices.Clone(h.GetResponse().GetRemove())
	return e
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

// headerOptions translates a map, sorted by name.
func headerOptions(values map[string]string, action corev3.HeaderValueOption_HeaderAppendAction, request bool) (out []*corev3.HeaderValueOption, authority string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if request && isAuthority(name) {
			authority = values[name]
			continue
		}
		out = append(out, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: values[name]},
			AppendAction: action,
		})
	}
	return out, authority
}

// apply adds the edits to a route.
func (e *headerEdits) apply(r *routev3.Route) {
	r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, e.requestAdd...)
	r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, e.requestRemove...)
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, e.responseAdd...)
	r.ResponseHeadersToRemove = append(r.ResponseHeadersToRemove, e.responseRemove...)
}
