package dns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
)

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	now := time.Unix(1000, 0)
	rec := &recorder{}
	r := newRefusals(rec, func() time.Time { return now })
	refuse := func(name string, why reason.Reason) {
		r.record(query{name: name, qtype: "A"}, why, "detail", nil)
	}
	for range 8 {
		refuse("a.example", reason.DNSNotInRegistry)
	}
	refuse("a.example", reason.DNSTypeRefused)
	refuse("b.example", reason.DNSNotInRegistry)
	if got := rec.told(); len(got) != 3 {
		t.Errorf("written: %q", got)
	}
	now = now.Add(refusalEvery)
	refuse("a.example", reason.DNSNotInRegistry)
	if d := rec.entries[0].Detail; !strings.Contains(d, "7 times more") {
		t.Errorf("detail %q does not tell the count", d)
	}
	rec.told()

	now = now.Add(time.Minute)
	for i := range 100_000 {
		refuse(fmt.Sprintf("n%d.example", i), reason.DNSNotInRegistry)
	}
	if got := len(rec.told()); got != refusalBurst {
		t.Errorf("%d records of a flood, want %d", got, refusalBurst)
	}
	if r.recent.Len() > refusalNames || len(r.byName) > refusalNames {
		t.Errorf("%d names are remembered", r.recent.Len())
	}
	if got := r.unwritten.Load(); got != 7+100_000-refusalBurst {
		t.Errorf("%d are counted as unwritten", got)
	}
	now = now.Add(time.Second)
	refuse("last.example", reason.DNSNotInRegistry)
	if d := rec.entries[0].Detail; !strings.Contains(d, fmt.Sprintf("%d refusals of other names", 100_000-refusalBurst)) {
		t.Errorf("detail %q does not tell the count", d)
	}
	for i := range 5000 {
		now = now.Add(time.Second)
		refuse(fmt.Sprintf("slow%d.example", i), reason.DNSNotInRegistry)
	}
	if got := len(rec.told()); got != 5001 {
		t.Errorf("%d records of names that come slowly", got)
	}
	if r.recent.Len() > refusalNames || len(r.byName) > refusalNames {
		t.Errorf("%d names are remembered", r.recent.Len())
	}
}
