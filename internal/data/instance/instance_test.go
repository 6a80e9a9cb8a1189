package instance

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/xds"
)

// What a proxy refuses of its configuration is told, and refused all the same.
func TestRefusalsAreTold(t *testing.T) {
	body, err := anypb.New(&routev3.RouteConfiguration{Name: "80", VirtualHosts: []*routev3.VirtualHost{{Name: "no domains"}}})
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	h := refusals{config.NewStore(config.StoreOptions{}), func(err error) { said.WriteString(err.Error()) }}
	errs := h.Apply(xds.Update{TypeURL: xds.RouteType, Changed: []xds.Resource{{Name: "80", Version: "1", Body: body}}})
	if errs["80"] == nil {
		t.Error("the store's refusal was lost")
	}
	for _, want := range []string{`"80"`, "no domains"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("missing %q in %q", want, said.String())
		}
	}
}
