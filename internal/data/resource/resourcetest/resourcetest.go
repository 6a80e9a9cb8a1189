// Package resourcetest gives tests Envoy resources from proto JSON: recorded
// control plane output, and snippets written by hand. Only tests may import it.
package resourcetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	// Types that appear in resources of real control planes.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// Recorded is what a control plane sent to one node, in its order.
type Recorded struct {
	Listeners, Routes, Clusters, Endpoints []*anypb.Any
}

// Reference loads what a stock istiod generates for the lab: policy is
// "registry_only" or "allow_any", node "sidecar" or "egressgateway". The test is
// skipped where the recordings are not there.
func Reference(t testing.TB, policy, node string) Recorded {
	t.Helper()
	dir := filepath.Join(sharedDir(t), "istio-reference", policy, node)
	return Recorded{
		Listeners: load(t, filepath.Join(dir, "listeners.json"), &listenerv3.Listener{}),
		Routes:    load(t, filepath.Join(dir, "routes.json"), &routev3.RouteConfiguration{}),
		Clusters:  load(t, filepath.Join(dir, "clusters.json"), &clusterv3.Cluster{}),
		Endpoints: load(t, filepath.Join(dir, "endpoints.json"), &endpointv3.ClusterLoadAssignment{}),
	}
}

// sharedDir is $EGRET_TESTDATA_SHARED, or a folder "shared" beside the repository.
func sharedDir(t testing.TB) string {
	if dir := os.Getenv("EGRET_TESTDATA_SHARED"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
			continue
		}
		shared := filepath.Join(filepath.Dir(dir), "shared")
		if _, err := os.Stat(filepath.Join(shared, "istio-reference")); err == nil {
			return shared
		}
	}
	t.Skip("no recorded resources: set EGRET_TESTDATA_SHARED to the folder that has istio-reference")
	return ""
}

func load(t testing.TB, file string, kind proto.Message) []*anypb.Any {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no recorded resources: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var out []*anypb.Any
	for i, raw := range list {
		m := kind.ProtoReflect().New().Interface()
		if err := unmarshal(raw, m); err != nil {
			t.Fatalf("%s[%d]: %v", file, i, err)
		}
		out = append(out, pack(t, m))
	}
	return out
}

// Listener, Route, Cluster and Endpoints make a resource from proto JSON.
func Listener(t testing.TB, text string) *anypb.Any { return fromText(t, text, &listenerv3.Listener{}) }

// Route makes a RouteConfiguration.
func Route(t testing.TB, text string) *anypb.Any {
	return fromText(t, text, &routev3.RouteConfiguration{})
}

// VirtualHost makes a VirtualHost.
func VirtualHost(t testing.TB, text string) *anypb.Any {
	return fromText(t, text, &routev3.VirtualHost{})
}

// FilterChain makes a FilterChain.
func FilterChain(t testing.TB, text string) *anypb.Any {
	return fromText(t, text, &listenerv3.FilterChain{})
}

// Cluster makes a Cluster.
func Cluster(t testing.TB, text string) *anypb.Any { return fromText(t, text, &clusterv3.Cluster{}) }

// Endpoints makes a ClusterLoadAssignment.
func Endpoints(t testing.TB, text string) *anypb.Any {
	return fromText(t, text, &endpointv3.ClusterLoadAssignment{})
}

func fromText(t testing.TB, text string, m proto.Message) *anypb.Any {
	t.Helper()
	if err := unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return pack(t, m)
}

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// unmarshal is protojson with Any types that this binary does not link: they keep
// their type, and a TypedStruct what it is of; their other content is dropped.
func unmarshal(data []byte, m proto.Message) error {
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return err
	}
	types := &anyTypes{Types: protoregistry.GlobalTypes, made: map[string]protoreflect.MessageType{}}
	if err := types.prune(tree); err != nil {
		return err
	}
	data, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{Resolver: types}.Unmarshal(data, m)
}

type anyTypes struct {
	*protoregistry.Types
	made map[string]protoreflect.MessageType
}

func (r *anyTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if t, ok := r.made[url]; ok {
		return t, nil
	}
	return r.Types.FindMessageByURL(url)
}

// prune empties the Anys of unknown type and makes a type for each.
func (r *anyTypes) prune(tree any) error {
	switch v := tree.(type) {
	case []any:
		for _, e := range v {
			if err := r.prune(e); err != nil {
				return err
			}
		}
	case map[string]any:
		if url, ok := v["@type"].(string); ok {
			if _, err := r.Types.FindMessageByURL(url); err != nil {
				for k := range v {
					if k != "@type" && k != "typeUrl" {
						delete(v, k)
					}
				}
				return r.add(url)
			}
		}
		for _, e := range v {
			if err := r.prune(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// add makes a message type with the one field that a TypedStruct is known by.
func (r *anyTypes) add(url string) error {
	full := protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String(fmt.Sprintf("made/%s.proto", full)), Package: proto.String(string(full.Parent())), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String(string(full.Name())),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name: proto.String("type_url"), JsonName: proto.String("typeUrl"), Number: proto.Int32(1),
				Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
	}, nil)
	if err != nil {
		return err
	}
	r.made[url] = dynamicpb.NewMessageType(fd.Messages().Get(0))
	return nil
}
