package resource

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

func madeFrom(t *testing.T, object string) *corev3.Metadata {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{"objects": []any{object}})
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"egret": s}}
}

// A refusal names the object that the refused part is from: the innermost one.
func TestRefusalNamesTheObject(t *testing.T) {
	bad := []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "content-length", Value: "1"}}}
	match := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	to := &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "c"}}}
	rc := &routev3.RouteConfiguration{Name: "80", VirtualHosts: []*routev3.VirtualHost{
		{Name: "good", Domains: []string{"a"}, Metadata: madeFrom(t, "VirtualService default/good/x"), Routes: []*routev3.Route{{Match: match, Action: to}}},
		{Name: "route", Domains: []string{"b"}, Metadata: madeFrom(t, "ServiceEntry/default/outer"), Routes: []*routev3.Route{
			{Match: match, Action: to},
			{Match: match, Action: to, RequestHeadersToAdd: bad, Metadata: madeFrom(t, "VirtualService/default/inner")},
		}},
		{Name: "host", Domains: []string{"c"}, Metadata: madeFrom(t, "ServiceEntry/default/host"), RequestHeadersToAdd: bad},
	}}
	a, err := anypb.New(rc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeRouteConfiguration(a)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{
		`virtual_hosts[1].routes[1].request_headers_to_add[0]: header "content-length" may not be edited (VirtualService default/inner)`,
		`virtual_hosts[2].request_headers_to_add[0]: header "content-length" may not be edited (ServiceEntry default/host)`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	for _, no := range []string{"good", "outer"} {
		if strings.Contains(err.Error(), no) {
			t.Errorf("%q is blamed in:\n%v", no, err)
		}
	}
}
