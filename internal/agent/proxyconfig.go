package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"go.yaml.in/yaml/v3"
)

// proxyConfig is the part of Istio's ProxyConfig (istio.io/api/mesh/v1alpha1) that means
// something here. All of it goes to the control plane as it is: tree.
type proxyConfig struct {
	DiscoveryAddress         string            `json:"discoveryAddress"`
	Concurrency              *int              `json:"concurrency"`
	TerminationDrainDuration string            `json:"terminationDrainDuration"`
	StatusPort               uint16            `json:"statusPort"`
	ProxyAdminPort           uint16            `json:"proxyAdminPort"`
	ServiceCluster           string            `json:"serviceCluster"`
	TracingServiceName       string            `json:"tracingServiceName"`
	ProxyMetadata            map[string]string `json:"proxyMetadata"`

	tree map[string]any
}

// defaultProxyConfig is what pilot-agent begins with (DefaultProxyConfig of
// istio.io/istio/pkg/config/mesh).
func defaultProxyConfig() map[string]any {
	return map[string]any{
		"binaryPath": "/usr/local/bin/envoy", "configPath": "./etc/istio/proxy", "serviceCluster": "istio-proxy",
		"discoveryAddress": "istiod.istio-system.svc:15012", "controlPlaneAuthPolicy": "MUTUAL_TLS",
		"drainDuration": "45s", "terminationDrainDuration": "5s",
		"proxyAdminPort": 15000, "statusPort": 15020, "statNameLength": 189,
	}
}

// readProxyConfig lays texts over the defaults, the later over the earlier: fields replace
// fields, and proxyMetadata is joined, as protobuf merges a map.
func readProxyConfig(texts ...namedText) (*proxyConfig, error) {
	tree := defaultProxyConfig()
	for _, t := range texts {
		over, err := parseYAML(t)
		if err != nil {
			return nil, err
		}
		overlay(tree, over)
	}
	c := &proxyConfig{tree: tree}
	asJSON, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(asJSON, c)
	}
	if err != nil {
		return nil, fmt.Errorf("ProxyConfig: %w", err)
	}
	return c, nil
}

// namedText is a text and where it comes from.
type namedText struct{ from, text string }

// maxText bounds what is read of an environment variable or an annotation, in bytes.
const maxText = 1 << 20

func parseYAML(t namedText) (map[string]any, error) {
	if len(t.text) > maxText {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", t.from, len(t.text), maxText)
	}
	var out map[string]any
	if err := yaml.Unmarshal([]byte(t.text), &out); err != nil {
		return nil, fmt.Errorf("%s: %w", t.from, err)
	}
	return out, nil
}

func overlay(under, over map[string]any) {
	for k, v := range over {
		before, was := under[k].(map[string]any)
		after, is := v.(map[string]any)
		if k == "proxyMetadata" && was && is {
			maps.Copy(before, after)
			continue
		}
		under[k] = v
	}
}

// drain is terminationDrainDuration; it must not be negative.
func (c *proxyConfig) drain() (time.Duration, error) {
	d, err := time.ParseDuration(c.TerminationDrainDuration)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s is negative", d)
	}
	if err != nil {
		return 0, fmt.Errorf("ProxyConfig.terminationDrainDuration: %w", err)
	}
	return d, nil
}
