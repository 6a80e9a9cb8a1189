package lab

import (
	"strings"
	"testing"
)

func TestOutcomeMark(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Outcome
		want Mark
	}{
		{"redirect then 200", Outcome{Statuses: []int{301, 200}}, Allowed},
		{"redirect through the gateway", Outcome{Statuses: []int{301, 200}, GatewayLines: 1}, ViaGateway},
		{"502", Outcome{Statuses: []int{502}}, Blocked},
		{"502 after a redirect is not the lab's 502", Outcome{Statuses: []int{301, 502}}, Other},
		{"502 made at the gateway is not the lab's 502", Outcome{Statuses: []int{502}, GatewayLines: 1}, Other},
		{"no answer", Outcome{ExitCode: 7}, Other},
		{"failed after the redirect", Outcome{Statuses: []int{301}, ExitCode: 35}, Other},
		{"503", Outcome{Statuses: []int{503}}, Other},
	} {
		if got := tc.o.Mark(); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestFormatTableTellsWhatDiffers(t *testing.T) {
	got := FormatTable([]Row{{
		Scenario:  "No sidecar",
		Wikipedia: Cell{Want: Allowed, Got: Outcome{Statuses: []int{200}}},
		Google:    Cell{Want: Allowed, Got: Outcome{Statuses: []int{502}}},
	}})
	if !strings.Contains(got, "| ✔ Allowed |") || !strings.Contains(got, "❌ 502 (DIFFERS: the lab says ✔ Allowed)") {
		t.Errorf("got:\n%s", got)
	}
}
