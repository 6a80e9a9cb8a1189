package egretproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/egret-mesh/egret/internal/agent"
)

// probeSource is the address that Istio's capture lets by to the application
// (istio.io/istio/pilot/cmd/pilot-agent/status).
var probeSource = netip.AddrFrom4([4]byte{127, 0, 0, 6})

// probeHandler asks the application what the kubelet would ask.
func probeHandler(podIP string, p agent.Probe) http.Handler {
	dialer := &net.Dialer{Timeout: p.Timeout, LocalAddr: &net.TCPAddr{IP: probeSource.AsSlice()}}
	if a, err := netip.ParseAddr(podIP); err != nil || a.Is6() {
		dialer.LocalAddr = nil
	}
	switch {
	case p.HTTP != nil:
		return httpProbe(podIP, p, dialer)
	case p.GRPC != nil:
		return simpleProbe(func(ctx context.Context) error { return askHealth(ctx, dialer, podIP, p) })
	}
	return simpleProbe(func(ctx context.Context) error {
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(podIP, strconv.Itoa(int(p.TCPPort))))
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// simpleProbe answers with 200, or with 500 and why not.
func simpleProbe(ask func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := ask(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// askHealth asks by gRPC's health checking protocol, in plain text as the kubelet does.
func askHealth(ctx context.Context, dialer *net.Dialer, podIP string, p agent.Probe) error {
	ctx, stop := context.WithTimeout(ctx, p.Timeout)
	defer stop()
	c, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(podIP, strconv.Itoa(int(p.GRPC.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/egret"),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	answer, err := healthgrpc.NewHealthClient(c).Check(ctx, &healthgrpc.HealthCheckRequest{Service: p.GRPC.Service})
	if err != nil {
		return err
	}
	if answer.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
		return fmt.Errorf("the application says that it is %s", answer.GetStatus())
	}
	return nil
}

func httpProbe(podIP string, p agent.Probe, dialer *net.Dialer) http.Handler {
	client := &http.Client{
		Timeout: p.Timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as the kubelet: it is about life, not identity
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url := p.HTTP.Scheme + "://" + net.JoinHostPort(podIP, strconv.Itoa(int(p.HTTP.Port))) + p.HTTP.Path
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := askApplication(r.Context(), client, url, p.HTTP.Headers)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(status)
	})
}

func askApplication(ctx context.Context, client *http.Client, url string, headers [][2]string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	for _, h := range headers {
		if r.Header.Add(h[0], h[1]); http.CanonicalHeaderKey(h[0]) == "Host" {
			r.Host = h[1]
		}
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
