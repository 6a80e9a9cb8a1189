package discovery

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

func TestProblemsOfBuildingThatReadingToldAreLeftOut(t *testing.T) {
	object := istioapi.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "a"}
	at := func(field, code string) istioapi.Problem {
		return istioapi.Problem{Position: istioapi.Position{File: "f"}, Object: object, Field: field, Code: code}
	}
	got := withoutRepeats([]istioapi.Problem{at("x", "read")}, []istioapi.Problem{at("x", "built"), at("y", "built")})
	if diff := cmp.Diff([]istioapi.Problem{at("x", "read"), at("y", "built")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
