// Package sds is the secrets that proxies get by SDS over ADS: what their names mean, who
// may have which, and how TLS data of Kubernetes' Secrets becomes Envoy's.
//
// It must not know Kubernetes' API (control/kube follows Secrets, control/trust asks who may
// read them), and must not tell a key to anything but the stream of a proxy that may have it:
// not to a log, a metric or a page of /debug.
package sds

import (
	"errors"
	"fmt"
	"strings"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// name is what a name in SDS stands for.
type name struct {
	namespace, secret string
	authorities       bool
}

// parseName reads a name in SDS: kubernetes://SECRET or kubernetes://NAMESPACE/SECRET; without
// one the namespace is the proxy's.
func parseName(text, namespace string) (name, error) {
	rest, ok := strings.CutPrefix(text, istioapi.KubernetesSecret)
	if !ok {
		return name{}, fmt.Errorf("not %sSECRET", istioapi.KubernetesSecret)
	}
	if before, after, two := strings.Cut(rest, "/"); two {
		namespace, rest = before, after
	}
	if err := errors.Join(istioapi.CheckSecretName(rest), istioapi.CheckSecretName(namespace)); err != nil {
		return name{}, err
	}
	return name{namespace, rest, strings.HasSuffix(rest, istioapi.AuthoritiesSuffix)}, nil
}
