// Package xdstest asks the proxy's decoder, and the rules that Envoy has of its own
// messages, whether they take what a control plane made. Only tests may import it.
package xdstest

import (
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/xds"
)

// Refused are the resources of a snapshot that Egret's proxy or Envoy would refuse, each
// with the reason.
func Refused(all xds.Snapshot) (out []string) {
	for typeURL, byName := range all {
		for name, r := range byName {
			if r.Name != name || r.Body.GetTypeUrl() != typeURL {
				out = append(out, fmt.Sprintf("%s is %s of type %s", name, r.Name, r.Body.GetTypeUrl()))
			}
			if err := decode(r.Body); err != nil {
				out = append(out, fmt.Sprintf("%s: %v", name, err))
			}
			if err := validate(r.Body); err != nil {
				out = append(out, fmt.Sprintf("%s: Envoy: %v", name, err))
			}
		}
	}
	return out
}

func decode(body *anypb.Any) (err error) {
	switch body.GetTypeUrl() {
	case xds.ListenerType:
		_, err = resource.DecodeListener(body)
	case xds.RouteType:
		_, err = resource.DecodeRouteConfiguration(body)
	case xds.ClusterType:
		_, err = resource.DecodeCluster(body)
	case xds.EndpointType:
		_, err = resource.DecodeEndpoints(body)
	case xds.NameTableType:
		_, err = resource.DecodeNameTable(body)
	default:
		err = fmt.Errorf("the type %s is not sent to proxies", body.GetTypeUrl())
	}
	return err
}

// validate applies the rules of protoc-gen-validate, which Envoy applies as well.
func validate(body *anypb.Any) error {
	if body.GetTypeUrl() == xds.NameTableType {
		return nil // Istio's, without rules
	}
	m, err := body.UnmarshalNew()
	if err != nil {
		return err
	}
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		return v.ValidateAll()
	}
	return nil
}
