package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// maxAnswer bounds what is read of a pod's answer.
const maxAnswer = 256 << 20

// get asks an HTTP server in a pod, which may listen on the pod's loopback only, through the
// API server, as `kubectl port-forward` does.
func get(ctx context.Context, config *rest.Config, namespace, pod string, port int, path string) ([]byte, error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	at, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	at.Path = strings.TrimSuffix(at.Path, "/") + fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/portforward", url.PathEscape(namespace), url.PathEscape(pod))
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, at)
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forward, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return nil, err
	}
	go func() { ended <- forward.ForwardPorts() }()
	select {
	case err := <-ended:
		return nil, fmt.Errorf("port %d of pod %s/%s: %w", port, namespace, pod, err)
	case <-ctx.Done():
		close(stop)
		<-ended
		return nil, ctx.Err()
	case <-ready:
	}
	defer func() {
		close(stop)
		<-ended
	}()
	ports, err := forward.GetPorts()
	if err != nil {
		return nil, err
	}
	return fetch(ctx, fmt.Sprintf("http://127.0.0.1:%d%s", ports[0].Local, path), fmt.Sprintf("port %d of pod %s/%s", port, namespace, pod))
}

func fetch(ctx context.Context, address, what string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", r.Status, strings.TrimSpace(string(text)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return text, nil
}
