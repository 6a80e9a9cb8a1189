package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// Names of the targets.
const (
	egret   = "egret"
	envoy   = "envoy"
	haproxy = "haproxy"
	nginx   = "nginx"
	source  = "origin" // reached directly
)

// benchCase is one row of the table: servers, a load, and what is compared.
type benchCase struct {
	name, about string
	columns     []column
	ratios      []ratio
	// start starts the servers. It may end with a skipError.
	start func(context.Context, *session) ([]*target, error)
	// measure loads one server for one round.
	measure func(context.Context, *session, *target) (sample, error)
	// rounds, when not 0, is how many there are whatever was asked for.
	rounds int
}

// sample is what one measurement found, by key of a column.
type sample map[string]float64

// column is a figure of the table.
type column struct {
	key, title string
	digits     int
}

// ratio is Egret's figure by a peer's, below 1 where Egret is better.
type ratio struct {
	suffix string // of the case's name: what the figure is, where there are several
	peer   string
	label  string // of the peer; "" is its name
	key    string
	of     string // the peer's figure; "" is the same one
	// factor of the peer's figure; 0 is 1.
	factor float64
	// higher figures are better.
	higher bool
	goal   float64 // 0: none was set
}

// target is a server that is measured.
type target struct {
	name      string
	address   string // where the load goes
	addresses map[string]string
	processes []*process // that make up its cost
	warm      bool       // it had load before
	// change makes a configuration change, the n-th; nil: it cannot.
	change func(n int) error
}

// skipError says that a case, or a peer in it, cannot be measured here.
type skipError struct{ reason string }

func (e skipError) Error() string { return e.reason }

func skip(err error) (string, bool) {
	var s skipError
	return s.reason, errors.As(err, &s)
}

// samples are those of one case: by target, in the order of rounds.
type samples map[string][]sample

// of is the median of a figure over the rounds. It is false where there is none.
func (s samples) of(name, key string) (float64, bool) {
	var all []float64
	for _, one := range s[name] {
		if v, ok := one[key]; ok {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return median(all), len(all) > 0
}

// value is the median over the rounds of the ratio in each: what disturbs the machine
// disturbs both of a round. It is false where one of them was not measured.
func (r ratio) value(s samples) (float64, bool) {
	ours, theirs := s[egret], s[r.peer]
	factor := cmp.Or(r.factor, 1)
	var all []float64
	for i := range min(len(ours), len(theirs)) {
		a, hasA := ours[i][r.key]
		b, hasB := theirs[i][cmp.Or(r.of, r.key)]
		b *= factor
		if r.higher {
			a, b = b, a
		}
		if hasA && hasB && b > 0 {
			all = append(all, a/b)
		}
	}
	slices.Sort(all)
	return median(all), len(all) > 0
}

// median of sorted values; of an even number, the mean of the middle two.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
