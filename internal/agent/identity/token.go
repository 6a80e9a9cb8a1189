package identity

import (
	"bytes"
	"context"
	"fmt"

	"github.com/egret-mesh/egret/internal/file"
)

// Token authenticates calls to Istio's control plane by a service account's token. The
// file is read for each call: the kubelet renews it.
type Token struct {
	Path string
	// ClusterID is the cluster that the token is of; it goes along ("" does not).
	ClusterID string
}

// GetRequestMetadata implements gRPC's credentials.PerRPCCredentials.
func (t Token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := file.Read(t.Path)
	if err != nil {
		return nil, fmt.Errorf("the service account's token: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the service account's token: %q is empty, or no token", t.Path)
	}
	m := map[string]string{"authorization": "Bearer " + string(text)}
	if t.ClusterID != "" {
		m["clusterid"] = t.ClusterID
	}
	return m, nil
}

// RequireTransportSecurity is true: whoever has the token is the workload.
func (Token) RequireTransportSecurity() bool { return true }
