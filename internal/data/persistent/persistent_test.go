package persistent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// Whatever is set and taken away, the map is as one of Go's, and the maps that it was
// made from stay as they were.
func TestAsGoMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m Map[string, int]
	want := map[string]int{}
	type version struct {
		m    Map[string, int]
		want map[string]int
	}
	var versions []version
	for i := range 20_000 {
		key := fmt.Sprint(random.IntN(3000))
		if random.IntN(3) == 0 {
			m = m.Without(key)
			delete(want, key)
		} else {
			m = m.With(key, i)
			want[key] = i
		}
		if i%1000 == 0 {
			versions = append(versions, version{m, maps.Clone(want)})
		}
	}
	for key := range want {
		m = m.Without(key)
	}
	versions = append(versions, version{m, map[string]int{}})
	for i, v := range versions {
		if v.m.Len() != len(v.want) || !maps.Equal(maps.Collect(v.m.All()), v.want) {
			t.Fatalf("version %d differs", i)
		}
		for n := range 3000 {
			key := fmt.Sprint(n)
			got, ok := v.m.Get(key)
			if value, there := v.want[key]; ok != there || got != value {
				t.Fatalf("version %d: %q is %d, %v; want %d, %v", i, key, got, ok, value, there)
			}
		}
	}
}

// Keys with equal hashes are told apart.
func TestCollisions(t *testing.T) {
	var m Map[int, int]
	n := &node[int, int]{}
	for i := range 10 {
		var added bool
		if n = m.put(n, slot[int, int]{key: i, value: i}, 7, lastShift+levelBits, &added); !added {
			t.Fatalf("%d was there", i)
		}
	}
	var added bool
	if n = m.put(n, slot[int, int]{key: 3, value: 33}, 7, lastShift+levelBits, &added); added || len(n.slots) != 10 {
		t.Fatal("3 was not there")
	}
	for i := range 10 {
		n = m.take(n, i, 7, lastShift+levelBits)
	}
	if n != nil {
		t.Error("something is left")
	}
}

func TestStopsEarly(t *testing.T) {
	var m Map[int, int]
	for i := range 1000 {
		m = m.With(i, i)
	}
	n := 0
	for range m.All() {
		if n++; n == 10 {
			break
		}
	}
	if n != 10 {
		t.Errorf("went on to %d", n)
	}
}

func TestGetDoesNotAllocate(t *testing.T) {
	type key struct{ a, b string }
	var m Map[key, int]
	for i := range 100 {
		m = m.With(key{"80", fmt.Sprint(i)}, i)
	}
	k := key{"80", "7"}
	if n := testing.AllocsPerRun(100, func() {
		if v, ok := m.Get(k); !ok || v != 7 {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWith(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var m Map[string, int]
			for i := range size {
				m = m.With(fmt.Sprint(i), i)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.With("7", 1)
			}
		})
	}
}
