package resource

import (
	"slices"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

const keyLB = "envoy.lb" // the metadata namespace of subsets

// maxSelectors bounds the subset selectors of a cluster, and the keys of one.
const maxSelectors = 32

// Labels are metadata values by key, sorted by key. Values are JSON texts: strings in
// quotes, numbers, true and false.
type Labels []Label

// Label is one of Labels.
type Label struct{ Key, Value string }

// Get is the value of a key; "" where there is none.
func (l Labels) Get(key string) string {
	for _, each := range l {
		if each.Key == key {
			return each.Value
		}
	}
	return ""
}

// Merge gives l with those of over, which win.
func (l Labels) Merge(over Labels) Labels {
	if len(over) == 0 {
		return l
	}
	out := slices.Clone(over)
	for _, each := range l {
		if over.Get(each.Key) == "" {
			out = append(out, each)
		}
	}
	return out.sorted()
}

func (l Labels) sorted() Labels {
	slices.SortFunc(l, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	return l
}

// Text is the same for equal labels only.
func (l Labels) Text() string {
	var b strings.Builder
	for _, each := range l {
		b.WriteString(strconv.Quote(each.Key))
		b.WriteByte('=')
		b.WriteString(each.Value)
		b.WriteByte(';')
	}
	return b.String()
}

// LabelMatch is what a route asks of endpoints, with its Text.
type LabelMatch struct {
	Labels Labels
	Text   string
}

// Match is nil for no labels.
func (l Labels) Match() *LabelMatch {
	if len(l) == 0 {
		return nil
	}
	return &LabelMatch{l, l.Text()}
}

// SubsetFallback is where a request goes whose labels no subset has.
type SubsetFallback uint8

// Subset fallback policies.
const (
	SubsetNoFallback SubsetFallback = iota
	SubsetAnyEndpoint
	SubsetDefault
	SubsetKeys       // of a selector: match by fewer keys
	SubsetNotDefined // of a selector: the cluster's policy counts
)

// Subsets is LbSubsetConfig.
type Subsets struct {
	Fallback  SubsetFallback
	Default   Labels
	Selectors []SubsetSelector
	// PanicAny: a subset without a healthy endpoint, in the fallback to the default
	// subset or any endpoint, gives way to any endpoint.
	PanicAny bool
}

// SubsetSelector says which keys make subsets. Keys and FallbackKeys are sorted.
type SubsetSelector struct {
	Keys         []string
	Fallback     SubsetFallback
	FallbackKeys []string
}

// subsets decodes lb_subset_config; nil where it selects nothing.
func (c *decoding) subsets(p *path, m *clusterv3.Cluster_LbSubsetConfig) *Subsets {
	if m == nil || len(m.GetSubsetSelectors()) == 0 {
		return nil
	}
	out := &Subsets{Default: c.lbLabels(p.field("default_subset"), m.GetDefaultSubset()), PanicAny: m.GetPanicModeAny()}
	switch m.GetFallbackPolicy() {
	case clusterv3.Cluster_LbSubsetConfig_NO_FALLBACK:
	case clusterv3.Cluster_LbSubsetConfig_ANY_ENDPOINT:
		out.Fallback = SubsetAnyEndpoint
	case clusterv3.Cluster_LbSubsetConfig_DEFAULT_SUBSET:
		out.Fallback = SubsetDefault
	default:
		c.fail(p.field("fallback_policy"), "%d is not supported", m.GetFallbackPolicy())
	}
	if len(m.GetSubsetSelectors()) > maxSelectors {
		c.fail(p.field("subset_selectors"), "%d are more than %d", len(m.GetSubsetSelectors()), maxSelectors)
		return nil
	}
	for i, s := range m.GetSubsetSelectors() {
		out.Selectors = append(out.Selectors, c.subsetSelector(p.at("subset_selectors", i), s))
	}
	return out
}

func (c *decoding) subsetSelector(p *path, m *clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector) SubsetSelector {
	s := SubsetSelector{Keys: sortedSet(m.GetKeys()), FallbackKeys: sortedSet(m.GetFallbackKeysSubset())}
	if len(s.Keys) == 0 || len(s.Keys) > maxSelectors {
		c.fail(p.field("keys"), "%d keys are not from 1 to %d", len(s.Keys), maxSelectors)
	}
	switch m.GetFallbackPolicy() {
	case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_NOT_DEFINED:
		s.Fallback = SubsetNotDefined
	case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_NO_FALLBACK:
	case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_ANY_ENDPOINT:
		s.Fallback = SubsetAnyEndpoint
	case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_DEFAULT_SUBSET:
		s.Fallback = SubsetDefault
	case clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector_KEYS_SUBSET:
		s.Fallback = SubsetKeys
		// Fewer keys each time: so falling back ends.
		if len(s.FallbackKeys) == 0 || len(s.FallbackKeys) >= len(s.Keys) || !containsAll(s.Keys, s.FallbackKeys) {
			c.fail(p.field("fallback_keys_subset"), "not a part of the selector's keys")
		}
	default:
		c.fail(p.field("fallback_policy"), "%d is not supported", m.GetFallbackPolicy())
	}
	return s
}

func sortedSet(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func containsAll(list, want []string) bool {
	for _, w := range want {
		if !slices.Contains(list, w) {
			return false
		}
	}
	return true
}

// metadataMatch is the "envoy.lb" part of a route's metadata_match.
func (c *decoding) metadataMatch(p *path, m *corev3.Metadata) Labels {
	for key := range m.GetFilterMetadata() {
		if key != keyLB {
			c.fail(p, "%q is not supported", clip(key))
		}
	}
	return c.lbLabels(p, m.GetFilterMetadata()[keyLB])
}

// lbLabels decodes metadata to compare. Lists and structures are not supported.
func (c *decoding) lbLabels(p *path, s *structpb.Struct) Labels {
	out := make(Labels, 0, len(s.GetFields()))
	for k, v := range s.GetFields() {
		text, ok := labelText(v)
		if !ok {
			c.fail(p, "the value of %q is neither a string, a number nor a boolean", clip(k))
		}
		out = append(out, Label{k, text})
	}
	if len(out) == 0 {
		return nil
	}
	return out.sorted()
}

func labelText(v *structpb.Value) (string, bool) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return strconv.Quote(k.StringValue), true
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(k.NumberValue, 'g', -1, 64), true
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(k.BoolValue), true
	}
	return "", false
}

// endpointLBLabels leaves out what is not a string, number or boolean: no route
// matches those.
func endpointLBLabels(m *corev3.Metadata) Labels {
	var out Labels
	for k, v := range m.GetFilterMetadata()[keyLB].GetFields() {
		if text, ok := labelText(v); ok {
			out = append(out, Label{k, text})
		}
	}
	return out.sorted()
}
