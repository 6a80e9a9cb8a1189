package xds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// wildcardName subscribes to every resource of a type
// (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "How the
// client specifies what resources to return").
const wildcardName = "*"

// pushOrder is the order of types within one push: what is referred to comes before
// what refers to it (xDS protocol, "Eventual consistency considerations").
var pushOrder = []string{ClusterType, EndpointType, SecretType, ListenerType, FilterChainType, RouteType, VirtualHostType, NameTableType}

// comparePushOrder orders type URLs; types that are not in pushOrder come last, by name.
func comparePushOrder(a, b string) int {
	return cmp.Or(cmp.Compare(pushRank(a), pushRank(b)), cmp.Compare(a, b))
}

func pushRank(typeURL string) int {
	if i := slices.Index(pushOrder, typeURL); i >= 0 {
		return i
	}
	return len(pushOrder)
}

// fullState reports whether a state-of-the-world response has every resource of the
// type, so that absence means deletion.
func fullState(typeURL string) bool {
	return typeURL == ListenerType || typeURL == ClusterType || typeURL == NameTableType
}

// legacyWildcard reports whether a first request without names means all resources.
// That is Istio's rule: all types but those that are only ever asked for by name.
func legacyWildcard(typeURL string) bool {
	switch typeURL {
	case EndpointType, RouteType, VirtualHostType, FilterChainType, SecretType,
		"type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig":
		return false
	}
	return true
}

// warms reports whether clusters and listeners wait for resources of the type before they
// are used, so that an answer for those may be late until these have come.
func warms(typeURL string) bool { return typeURL == EndpointType || typeURL == SecretType }

// removedLate reports whether resources of the type are removed after everything
// else of a push: other resources may refer to them until then.
func removedLate(typeURL string) bool {
	return typeURL == ClusterType || typeURL == EndpointType
}

// BodyVersion is a version made from the bytes of a resource: it changes when, and
// only when, the body does.
func BodyVersion(body *anypb.Any) string {
	sum := sha256.Sum256(body.GetValue())
	return hex.EncodeToString(sum[:12])
}

// setVersion is a version of a set of resources, made from their names and versions.
func setVersion(resources []Resource) string {
	sorted := slices.SortedFunc(slices.Values(resources), func(a, b Resource) int {
		return cmp.Compare(a.Name, b.Name)
	})
	h := sha256.New()
	for _, r := range sorted {
		fmt.Fprintf(h, "%q=%q;", r.Name, r.Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// resourceName finds the name of a resource that came without one, on a
// state-of-the-world stream: the string in field 1 (name, or cluster_name) of every
// Envoy resource. The name table has none; its name is "".
func resourceName(body *anypb.Any) (string, error) {
	if body.GetTypeUrl() == NameTableType {
		return "", nil
	}
	rest := body.GetValue()
	name, found := "", false
	for len(rest) > 0 {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return "", fmt.Errorf("resource is not a valid message: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
		if num == 1 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return "", fmt.Errorf("resource is not a valid message: %w", protowire.ParseError(n))
			}
			name, found, rest = string(v), true, rest[n:] // the last one counts
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, rest); n < 0 {
			return "", fmt.Errorf("resource is not a valid message: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	if !found || name == "" {
		return "", fmt.Errorf("resource of type %q has no name", body.GetTypeUrl())
	}
	return name, nil
}
