package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// stat is one statistic by its name in Envoy's own form.
type stat struct {
	name    string
	value   float64
	buckets []bucket // of a histogram; nil: not one
	count   uint64   // of a histogram
}

// bucket is the number of values up to a bound: with those in the buckets before, and
// without.
type bucket struct {
	Bound      float64 `json:"upper_bound"`
	Interval   uint64  `json:"interval"`
	Cumulative uint64  `json:"cumulative"`
}

func (s stat) used() bool { return s.value != 0 || s.count != 0 }

func (a *Admin) stats(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("format") == "prometheus" {
		return a.find("/stats/prometheus").serve(w, r)
	}
	pattern, err := parsePattern(q.Get("filter"))
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid re2 regex: %v", err)
	}
	done, err := a.begin(r)
	if err != nil {
		return err
	}
	defer done()
	families, err := a.metrics.Gather()
	if err != nil {
		return err
	}
	stats := statsOf(families)
	stats = slices.DeleteFunc(stats, func(s stat) bool {
		return q.Has("usedonly") && !s.used() || pattern != nil && !pattern.MatchString(s.name)
	})
	if q.Get("format") == "json" {
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(statsJSON(stats))
	}
	for _, s := range stats {
		if _, err := fmt.Fprintf(w, "%s: %s\n", s.name, s.text()); err != nil {
			return err
		}
	}
	return nil
}

func (s stat) text() string {
	switch {
	case s.buckets == nil:
		return number(s.value)
	case s.count == 0:
		return "No recorded values"
	}
	parts := make([]string, len(s.buckets))
	for i, b := range s.buckets { // Envoy's form of histogram_buckets=cumulative
		parts[i] = "B" + number(b.Bound) + ":" + strconv.FormatUint(b.Cumulative, 10)
	}
	return strings.Join(parts, " ")
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// statsJSON is the form of Envoy's /stats?format=json&histogram_buckets=cumulative.
func statsJSON(stats []stat) any {
	type simple struct {
		Name  string      `json:"name"`
		Value json.Number `json:"value"`
	}
	type histogram struct {
		Name    string   `json:"name"`
		Buckets []bucket `json:"buckets"`
	}
	list, histograms := []any{}, []histogram{}
	for _, s := range stats {
		if s.buckets != nil {
			histograms = append(histograms, histogram{s.name, s.buckets})
		} else {
			list = append(list, simple{s.name, json.Number(number(s.value))})
		}
	}
	if len(histograms) > 0 {
		list = append(list, map[string]any{"histograms": histograms})
	}
	return map[string]any{"stats": list}
}

// statsOf are all metrics as statistics, by name.
func statsOf(families []*dto.MetricFamily) []stat {
	var out []stat
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s := stat{name: statName(f.GetName(), m.GetLabel())}
			switch {
			case m.GetHistogram() != nil:
				s.count, s.buckets = m.GetHistogram().GetSampleCount(), []bucket{}
				var before uint64
				for _, b := range m.GetHistogram().GetBucket() {
					if !math.IsInf(b.GetUpperBound(), 0) {
						n := b.GetCumulativeCount()
						s.buckets = append(s.buckets, bucket{b.GetUpperBound(), n - before, n})
						before = n
					}
				}
			case m.GetCounter() != nil:
				s.value = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				s.value = m.GetGauge().GetValue()
			default:
				s.value = m.GetUntyped().GetValue()
			}
			if !math.IsNaN(s.value) && !math.IsInf(s.value, 0) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b stat) int { return cmp.Compare(a.name, b.name) })
	return out
}

// statScopes are the labels that Envoy has in the middle of a statistic's name.
var statScopes = []struct{ prefix, label, scope string }{
	{"envoy_cluster_", "cluster_name", "cluster"},
	{"envoy_listener_", "listener_address", "listener"},
}

// statName is Envoy's name of a statistic, from that of the metric:
// envoy_cluster_upstream_cx_total{cluster_name="a"} is cluster.a.upstream_cx_total, and
// envoy_server_live is server.live. The labels of other metrics follow their name, each
// with its value.
func statName(metric string, labels []*dto.LabelPair) string {
	values := map[string]string{}
	for _, l := range labels {
		values[l.GetName()] = l.GetValue()
	}
	for _, s := range statScopes {
		rest, ok := strings.CutPrefix(metric, s.prefix)
		if name, has := values[s.label]; ok && has {
			if class, has := values["response_code_class"]; has {
				rest = strings.TrimSuffix(rest, "xx") + class
			}
			return s.scope + "." + name + "." + rest
		}
	}
	for _, scope := range []string{"listener_manager", "server"} {
		if rest, ok := strings.CutPrefix(metric, "envoy_"+scope+"_"); ok {
			return scope + "." + rest
		}
	}
	var b strings.Builder
	b.WriteString(metric)
	for _, l := range labels {
		b.WriteString("." + l.GetName() + "." + l.GetValue())
	}
	return b.String()
}
