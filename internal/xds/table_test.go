package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// The table holds what a map of Go's holds, whatever is put and removed.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var table recordTable
		want := map[nameKey]record{}
		for i := range 3000 {
			grow := 4 // more comes than goes, then the other way round
			if i > 1500 {
				grow = 1
			}
			k := keyOf(fmt.Sprint(random.IntN(400)))
			switch n := random.IntN(6); {
			case n < grow:
				r := record{name: k, seq: random.Uint32(), named: true}
				table.put(r)
				want[k] = r
			case n == 5 && random.IntN(50) == 0:
				table.reserve(random.IntN(200))
			default:
				table.remove(k)
				delete(want, k)
			}
			if got := table.get(k); got != want[k] || table.used != len(want) {
				t.Fatalf("seed %d, step %d: %v of %d; want %v of %d", seed, i, got, table.used, want[k], len(want))
			}
		}
		got := map[nameKey]record{}
		for r := range table.all() {
			got[r.name] = r
		}
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: %d records; want %d", seed, len(got), len(want))
		}
		for k := range want {
			table.remove(k)
		}
		if table.used != 0 || len(table.slots) > 40 {
			t.Errorf("seed %d: %d records and %d slots are left of nothing", seed, table.used, len(table.slots))
		}
	}
}
