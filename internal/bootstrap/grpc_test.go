package bootstrap

import (
	"encoding/json"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/xds"
)

func TestGRPC(t *testing.T) {
	node := &corev3.Node{Id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local"}
	for name, c := range map[string]struct {
		options Options
		want    string // JSON
		problem string
	}{
		"plain text, two addresses": {Options{Servers: []string{"10.0.0.1:15010", "cp.example:15010"}}, `{
			"xds_servers": [
				{"server_uri": "10.0.0.1:15010", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]},
				{"server_uri": "cp.example:15010", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
			],
			"node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local"}}`, ""},
		"TLS on both sides": {Options{Servers: []string{"cp.example:15012"}, TLS: &xds.TLS{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem", Names: []string{"cp.example"}}}, `{
			"xds_servers": [{"server_uri": "cp.example:15012", "server_features": ["xds_v3"], "channel_creds": [{"type": "tls", "config":
				{"ca_certificate_file": "ca.pem", "certificate_file": "cert.pem", "private_key_file": "key.pem"}}]}],
			"node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local"},
			"certificate_providers": {"default": {"plugin_name": "file_watcher", "config":
				{"ca_certificate_file": "ca.pem", "certificate_file": "cert.pem", "private_key_file": "key.pem"}}}}`, ""},
		"no address":      {Options{}, "", "addresses"},
		"no port":         {Options{Servers: []string{"cp.example"}}, "", "HOST:PORT"},
		"another name":    {Options{Servers: []string{"10.0.0.1:15012"}, TLS: &xds.TLS{CA: "ca.pem", Names: []string{"cp.example"}}}, "", "10.0.0.1"},
		"a server name":   {Options{Servers: []string{"10.0.0.1:15012"}, TLS: &xds.TLS{CA: "ca.pem", ServerName: "cp.example"}}, "", "server name"},
		"half of a chain": {Options{Servers: []string{"10.0.0.1:15012"}, TLS: &xds.TLS{CA: "ca.pem", Cert: "cert.pem"}}, "", "needs its key"},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Node = node
			text, err := GRPC(c.options)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("%v, want %q", err, c.problem)
				}
				return
			}
			var got, want any
			if err != nil || json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
