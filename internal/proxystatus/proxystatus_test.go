package proxystatus_test

import (
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/proxystatus"
	"github.com/egret-mesh/egret/internal/xds"
)

func TestWord(t *testing.T) {
	for want, s := range map[string]*discovery.TypeStatus{
		"NOT SENT":                   nil,
		"SYNCED":                     {Sent: "2", Acked: "2"},
		"STALE":                      {Sent: "2", Acked: "1"},
		"STALE (Never Acknowledged)": {Sent: "2"},
		"ERROR":                      {Sent: "2", Acked: "1", Refused: []string{"a"}, Nack: "no"},
	} {
		if got := proxystatus.Word(s); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
	if got := proxystatus.Word(&discovery.TypeStatus{Sent: "2", Acked: "2", Pending: []string{"a"}}); got != "STALE" {
		t.Errorf("an answer is missing: %s", got)
	}
}

// A refusal is told with the resource and the words of the NACK.
func TestRefusal(t *testing.T) {
	var out strings.Builder
	bad, err := proxystatus.Print(&out, []discovery.SyncStatus{{
		Proxy: "sidecar~10.0.0.1~web.shop~shop.svc.cluster.local",
		Types: []discovery.TypeStatus{
			{TypeURL: xds.ClusterType, Sent: "2", Acked: "2"},
			{TypeURL: xds.RouteType, Sent: "2", Acked: "1", Refused: []string{"80"}, Nack: "80: no domains\nmore"},
		},
	}, {Proxy: "other", Error: "no such node"}})
	if err != nil || !bad {
		t.Fatal(bad, err)
	}
	const want = `NAME         CDS          LDS          EDS          RDS          NDS          VHDS         FCDS
web.shop     SYNCED       NOT SENT     NOT SENT     ERROR        NOT SENT     NOT SENT     NOT SENT
other        NOT SENT     NOT SENT     NOT SENT     NOT SENT     NOT SENT     NOT SENT     NOT SENT

web.shop refuses RDS 80
    80: no domains
    more

other gets nothing new: no such node
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`[{"proxy":"a~b~c~d","types":[{"type_url":"x","nack":"\n"}]}]`)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := proxystatus.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		var out strings.Builder
		if _, err := proxystatus.Print(&out, all); err != nil {
			t.Fatal(err)
		}
	})
}
