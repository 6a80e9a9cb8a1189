package anyjson_test

import (
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/anyjson"
)

// An Any of a type that is not linked in keeps its type, and does not spoil the rest.
func TestUnknownTypes(t *testing.T) {
	m := &adminv3.ClustersConfigDump{VersionInfo: "1", StaticClusters: []*adminv3.ClustersConfigDump_StaticCluster{
		{Cluster: &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.This", Value: []byte{8, 1}}},
	}}
	data, err := anyjson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), "nobody.knows.This") || !strings.Contains(string(data), "version_info") {
		t.Errorf("%s", data)
	}
}

// What is read of such an Any is not lost.
func TestUnknownTypesAreKept(t *testing.T) {
	const text = `{"version_info":"1","new_field":2,"static_clusters":[{"cluster":{"@type":"type.googleapis.com/nobody.knows.This","a":{"b":[1,"x"]}}}]}`
	m := &adminv3.ClustersConfigDump{}
	if err := anyjson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	data, err := anyjson.MarshalCamel(m)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(data), " ", "")
	if want := `"typeUrl":"type.googleapis.com/nobody.knows.This","value":{"a":{"b":[1,"x"]}}`; m.GetVersionInfo() != "1" || !strings.Contains(plain, want) {
		t.Errorf("%s", data)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ClustersConfigDump","version_info":"1"},{"@type":"x/y.Z","value":3}]}`))
	f.Add([]byte(`{"configs":[{"@type":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &adminv3.ConfigDump{}
		if anyjson.Unmarshal(data, m) != nil {
			return
		}
		again, err := anyjson.Marshal(m)
		if err != nil {
			t.Fatalf("%v of %q", err, data)
		}
		back := &adminv3.ConfigDump{}
		if err := anyjson.Unmarshal(again, back); err != nil || !proto.Equal(m, back) {
			t.Fatalf("%v\n%s\n%s", err, data, again)
		}
	})
}
