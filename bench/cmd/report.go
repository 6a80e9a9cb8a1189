package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"
)

// sample is one measurement of one server.
type sample struct {
	perRequest time.Duration // CPU time of the process
	perSecond  float64
}

// results are the samples by name and number of connections, in the order of rounds.
type results map[string]map[int][]sample

func (r results) add(name string, connections int, s sample) {
	if r[name] == nil {
		r[name] = map[int][]sample{}
	}
	r[name][connections] = append(r[name][connections], s)
}

// cost is the median, least and most CPU time for a request.
func cost(samples []sample) (middle, least, most time.Duration) {
	all := make([]time.Duration, len(samples))
	for i, s := range samples {
		all[i] = s.perRequest
	}
	slices.Sort(all)
	return median(all), all[0], all[len(all)-1]
}

// ratio is the median over the rounds of a's cost by b's: what disturbs the machine
// disturbs both of a round.
func ratio(a, b []sample) float64 {
	all := make([]float64, min(len(a), len(b)))
	for i := range all {
		all[i] = float64(a[i].perRequest) / float64(max(1, b[i].perRequest))
	}
	slices.Sort(all)
	return median(all)
}

// median of sorted values; of an even number, the mean of the middle two.
func median[T ~int64 | ~float64](sorted []T) T {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// report prints the table and the ratios.
func (b *bench) report() {
	fmt.Fprintf(b.out, "\nCPU time of the process for one request, HTTP/1.1, %d-byte bodies, %d rounds of %v\n\n",
		bodySize, b.rounds, b.duration)
	w := tabwriter.NewWriter(b.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "server\tconnections\tmedian us\tleast\tmost\trequests/s\t")
	for _, n := range b.connections {
		for _, t := range append([]*target{b.origin}, b.proxies...) {
			samples := b.results[t.name][n]
			middle, least, most := cost(samples)
			rates := make([]float64, len(samples))
			for i, s := range samples {
				rates[i] = s.perSecond
			}
			slices.Sort(rates)
			fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.0f\t\n", t.name, n, us(middle), us(least), us(most), median(rates))
		}
	}
	w.Flush()
	fmt.Fprintln(b.out, "\nnginx and haproxy write no access log; egret writes one, with metrics and the full way of a request.")
	fmt.Fprintln(b.out)
	for _, n := range b.connections {
		for _, t := range b.proxies {
			if t.name != egret && b.results[egret] != nil {
				fmt.Fprintf(b.out, "RATIO http1-%dc %s/%s %.2f\n", n, egret, t.name,
					ratio(b.results[egret][n], b.results[t.name][n]))
			}
		}
	}
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
