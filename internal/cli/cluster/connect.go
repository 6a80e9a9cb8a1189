package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

// loader reads the kubeconfig as kubectl does.
func (f *flags) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
}

// namespace is the one that the kubeconfig's context names, or "default".
func (f *flags) namespace() string {
	ns, _, err := f.loader().Namespace()
	if err != nil {
		return "default" // whoever connects tells what is wrong
	}
	return ns
}

// config says how to reach the cluster, as kubectl does.
func (f *flags) config() (*rest.Config, error) {
	c, err := f.loader().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster: there is no kubeconfig (--kubeconfig, $KUBECONFIG, ~/.kube/config)")
	}
	if err != nil {
		return nil, fmt.Errorf("no cluster: %w", err)
	}
	c.QPS, c.Burst = 50, 100
	c.UserAgent = f.name
	return c, nil
}

// connect asks the API server for its version, so that a cluster that is not there is told
// as such.
func (f *flags) connect(ctx context.Context) (*install.Cluster, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("no cluster: %w", err)
	}
	if _, err := d.ServerVersion(); err != nil {
		return nil, unreachable(config.Host, err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &install.Cluster{Dynamic: client, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, ctx.Err()
}

// unreachable says in plain words why the API server did not answer.
func unreachable(host string, err error) error {
	var lookup *net.DNSError
	var op *net.OpError
	var u *url.Error
	switch {
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server %s does not know who you are: look at the user of your kubeconfig, whose token or certificate may have expired", host)
	case errors.As(err, &lookup):
		return fmt.Errorf("no cluster: the name of the API server %s has no address: %w", host, lookup)
	case errors.As(err, &op):
		return fmt.Errorf("no cluster: the API server %s cannot be reached: %w", host, op)
	case errors.As(err, &u):
		return fmt.Errorf("no cluster: the API server %s does not answer: %w", host, u.Err)
	}
	return fmt.Errorf("the API server %s refuses: %w", host, err)
}
