package resource_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

func TestBalancingDecodes(t *testing.T) {
	policy := func(typ, body string) string {
		return `"loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.` + typ + `"` + body + `}}}]}`
	}
	b := func(change func(*resource.Balancing)) resource.Balancing {
		out := resource.Balancing{PanicThreshold: 50}
		change(&out)
		return out
	}
	ring := func(b *resource.Balancing) { b.MinRing, b.MaxRing = 1024, 8<<20 }
	tests := []struct {
		name, text string
		lb         resource.LBPolicy
		want       resource.Balancing
	}{
		{"defaults", ``, resource.LBRoundRobin, b(func(*resource.Balancing) {})},
		{"common", `"commonLbConfig":{"healthyPanicThreshold":{"value":0},"localityWeightedLbConfig":{}}`, resource.LBRoundRobin,
			resource.Balancing{LocalityWeighted: true}},
		{"round robin with slow start", `"roundRobinLbConfig":{"slowStartConfig":{"slowStartWindow":"10s"}}`, resource.LBRoundRobin,
			b(func(b *resource.Balancing) {
				b.SlowStart = resource.SlowStart{Window: 10 * time.Second, Aggression: 1, MinWeight: 10}
			})},
		{"least request", `"lbPolicy":"LEAST_REQUEST","leastRequestLbConfig":{"choiceCount":4,"activeRequestBias":{"defaultValue":0,"runtimeKey":"x"},
			"slowStartConfig":{"slowStartWindow":"5s","aggression":{"defaultValue":2},"minWeightPercent":{"value":25}}}`, resource.LBLeastRequest,
			b(func(b *resource.Balancing) {
				b.ChoiceCount, b.IgnoreActive = 4, true
				b.SlowStart = resource.SlowStart{Window: 5 * time.Second, Aggression: 2, MinWeight: 25}
			})},
		{"ring hash", `"lbPolicy":"RING_HASH"`, resource.LBRingHash, b(ring)},
		{"ring hash with everything", `"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":100,"maximumRingSize":200,"hashFunction":"MURMUR_HASH_2"},
			"commonLbConfig":{"consistentHashingLbConfig":{"useHostnameForHashing":true}}`, resource.LBRingHash,
			b(func(b *resource.Balancing) { b.MinRing, b.MaxRing, b.Murmur, b.HashHostname = 100, 200, true, true })},
		{"maglev", `"lbPolicy":"MAGLEV","maglevLbConfig":{"tableSize":2039}`, resource.LBMaglev, b(func(b *resource.Balancing) { b.MaglevSize = 2039 })},
		{"original destination", `"lbPolicy":"CLUSTER_PROVIDED","originalDstLbConfig":{"upstreamPortOverride":15008}`, resource.LBClusterProvided,
			b(func(b *resource.Balancing) { b.PortOverride = 15008 })},
		{"extension: round robin", policy("round_robin.v3.RoundRobin", `,"localityLbConfig":{"localityWeightedLbConfig":{}}`), resource.LBRoundRobin,
			b(func(b *resource.Balancing) { b.LocalityWeighted = true })},
		{"extension: least request", policy("least_request.v3.LeastRequest", `,"choiceCount":3`), resource.LBLeastRequest,
			b(func(b *resource.Balancing) { b.ChoiceCount = 3 })},
		{"extension: random", policy("random.v3.Random", ``), resource.LBRandom, b(func(*resource.Balancing) {})},
		{"extension: ring hash", policy("ring_hash.v3.RingHash", `,"minimumRingSize":7,"hashFunction":"MURMUR_HASH_2"`), resource.LBRingHash,
			b(func(b *resource.Balancing) { b.MinRing, b.MaxRing, b.Murmur = 7, 8<<20, true })},
		{"extension: maglev", policy("maglev.v3.Maglev", ``), resource.LBMaglev, b(func(b *resource.Balancing) { b.MaglevSize = 65537 })},
		{"extension: cluster provided", policy("cluster_provided.v3.ClusterProvided", ``), resource.LBClusterProvided, b(func(*resource.Balancing) {})},
		{"extension: locality weighted", policy("wrr_locality.v3.WrrLocality", `,"endpointPickingPolicy":{"policies":[
			{"typedExtensionConfig":{"name":"unknown","typedConfig":{"@type":"type.googleapis.com/x.Policy"}}},
			{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random"}}}]}`), resource.LBRandom,
			b(func(b *resource.Balancing) { b.LocalityWeighted = true })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := `{"name":"c"}`
			if tt.text != "" {
				text = `{"name":"c",` + tt.text + `}`
			}
			c, err := resource.DecodeCluster(resourcetest.Cluster(t, text))
			if err != nil {
				t.Fatal(err)
			}
			if c.LB != tt.lb {
				t.Errorf("policy %d, want %d", c.LB, tt.lb)
			}
			if diff := cmp.Diff(tt.want, c.Balancing); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBalancingRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"ring bounds", `"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":100,"maximumRingSize":99}`, []string{"minimum_ring_size", "100"}},
		{"ring too large", `"lbPolicy":"RING_HASH","ringHashLbConfig":{"maximumRingSize":99999999}`, []string{"maximum_ring_size"}},
		{"not a prime", `"lbPolicy":"MAGLEV","maglevLbConfig":{"tableSize":65536}`, []string{"table_size", "65536"}},
		{"table too large", `"lbPolicy":"MAGLEV","maglevLbConfig":{"tableSize":5000077}`, []string{"table_size"}},
		{"one choice", `"lbPolicy":"LEAST_REQUEST","leastRequestLbConfig":{"choiceCount":1}`, []string{"choice_count"}},
		{"aggression", `"roundRobinLbConfig":{"slowStartConfig":{"slowStartWindow":"1s","aggression":{}}}`, []string{"aggression"}},
		{"panic threshold", `"commonLbConfig":{"healthyPanicThreshold":{"value":101}}`, []string{"healthy_panic_threshold"}},
		{"no known policy", `"loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/x.Policy"}}}]}`, []string{"load_balancing_policy", "x.Policy"}},
		{"hash policy of a cluster", `"loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev","consistentHashingLbConfig":{"hashPolicy":[{"terminal":true}]}}}}]}`, []string{"hash_policy"}},
		{"port override", `"lbPolicy":"CLUSTER_PROVIDED","originalDstLbConfig":{"upstreamPortOverride":70000}`, []string{"upstream_port_override"}},
		{"fallback keys", `"lbSubsetConfig":{"subsetSelectors":[{"keys":["a"],"fallbackPolicy":"KEYS_SUBSET","fallbackKeysSubset":["a"]}]}`, []string{"fallback_keys_subset"}},
		{"no keys", `"lbSubsetConfig":{"subsetSelectors":[{}]}`, []string{"keys"}},
		{"ejection percent", `"outlierDetection":{"maxEjectionPercent":101}`, []string{"max_ejection_percent"}},
		{"interval", `"outlierDetection":{"interval":"0s"}`, []string{"interval"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := resource.DecodeCluster(resourcetest.Cluster(t, `{"name":"c",`+tt.text+`}`))
			checkRefused(t, err, tt.want...)
		})
	}
}

func TestSubsetsDecode(t *testing.T) {
	c, err := resource.DecodeCluster(resourcetest.Cluster(t, `{"name":"c","lbSubsetConfig":{"fallbackPolicy":"DEFAULT_SUBSET","defaultSubset":{"b":true,"a":"x"},"panicModeAny":true,
		"subsetSelectors":[{"keys":["b","a","b"]},{"keys":["z","y"],"fallbackPolicy":"KEYS_SUBSET","fallbackKeysSubset":["y"]}]},
		"loadAssignment":{"clusterName":"c","policy":{"overprovisioningFactor":200},"endpoints":[{"lbEndpoints":[
			{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}},"metadata":{"filterMetadata":{"envoy.lb":{"n":1.5,"a":"x","list":["left out"]}}}}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &resource.Subsets{Fallback: resource.SubsetDefault, PanicAny: true,
		Default: resource.Labels{{Key: "a", Value: `"x"`}, {Key: "b", Value: "true"}},
		Selectors: []resource.SubsetSelector{
			{Keys: []string{"a", "b"}, Fallback: resource.SubsetNotDefined},
			{Keys: []string{"y", "z"}, Fallback: resource.SubsetKeys, FallbackKeys: []string{"y"}},
		}}
	if diff := cmp.Diff(want, c.Subsets); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(resource.Labels{{Key: "a", Value: `"x"`}, {Key: "n", Value: "1.5"}}, c.Endpoints.Localities[0].Endpoints[0].Labels); diff != "" {
		t.Errorf("labels (-want +got)\n%s", diff)
	}
	if c.Endpoints.Factor() != 200 {
		t.Errorf("overprovisioning factor %d", c.Endpoints.Factor())
	}
}

func TestLabels(t *testing.T) {
	a := resource.Labels{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}
	over := resource.Labels{{Key: "b", Value: "3"}, {Key: "c", Value: "4"}}
	if diff := cmp.Diff(resource.Labels{{Key: "a", Value: "1"}, {Key: "b", Value: "3"}, {Key: "c", Value: "4"}}, a.Merge(over)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if (resource.Labels{{Key: `a"="`, Value: "1"}}).Text() == (resource.Labels{{Key: `a`, Value: `"="1`}}).Text() {
		t.Error("different labels have the same text")
	}
}

func TestOutlierDetectionDecodes(t *testing.T) {
	c, err := resource.DecodeCluster(resourcetest.Cluster(t, `{"name":"c","outlierDetection":{"consecutive5xx":7,"enforcingSuccessRate":0,
		"consecutiveGatewayFailure":2,"enforcingConsecutiveGatewayFailure":100,"baseEjectionTime":"600s","maxEjectionPercent":50,"alwaysEjectOneHost":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	rate := func(threshold, percent, volume uint32) resource.RateRule {
		return resource.RateRule{Enforced: resource.Enforced{Threshold: threshold, Percent: percent}, Hosts: 5, Volume: volume}
	}
	want := &resource.OutlierDetection{
		Consecutive5xx:     resource.Enforced{Threshold: 7, Percent: 100},
		ConsecutiveGateway: resource.Enforced{Threshold: 2, Percent: 100},
		ConsecutiveLocal:   resource.Enforced{Threshold: 5, Percent: 100},
		Interval:           10 * time.Second, BaseEjection: 10 * time.Minute, MaxEjection: 10 * time.Minute,
		MaxPercent: 50, AlwaysEjectOne: true,
		SuccessRate: rate(1900, 0, 100), LocalSuccess: rate(1900, 100, 100),
		FailurePercent: rate(85, 0, 50), LocalFailurePct: rate(85, 0, 50),
	}
	if diff := cmp.Diff(want, c.Outlier); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Whatever bytes a control plane sends as a cluster: an error or a cluster, in bounds.
func FuzzCluster(f *testing.F) {
	for _, text := range []string{
		`{"name":"c","lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":100}}`,
		`{"name":"c","lbPolicy":"MAGLEV","maglevLbConfig":{"tableSize":65537},"outlierDetection":{"consecutive5xx":7}}`,
		`{"name":"c","lbSubsetConfig":{"subsetSelectors":[{"keys":["a"]}]},"circuitBreakers":{"thresholds":[{"retryBudget":{}}]}}`,
		`{"name":"c","loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random"}}}]}}`,
	} {
		f.Add(resourcetest.Cluster(f, text).GetValue())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := resource.DecodeCluster(&anypb.Any{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster", Value: b})
		if (c == nil) == (err == nil) {
			t.Fatalf("cluster %v, error %v", c, err)
		}
		if c != nil && (c.Balancing.MaxRing > resource.DefaultMaxRing || c.Balancing.MinRing > resource.DefaultMaxRing || c.Balancing.MaglevSize > 5000011) {
			t.Fatalf("out of bounds: %+v", c.Balancing)
		}
	})
}
