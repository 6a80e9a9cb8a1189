package egretproxy_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
)

// A gateway that was told to end serves who has not heard of that yet, and says that it
// is not ready.
func TestLameDuck(t *testing.T) {
	gateway, admin := runtest.FreeAddress(t), runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", website(t, "origin"), gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0"})
	b, err := bootstrap.Parse(writeBootstrap(t, gatewayNode, admin, nil, p.xds))
	if err != nil {
		t.Fatal(err)
	}
	told, tell := context.WithCancel(t.Context())
	defer tell()
	runtest.Run(t, "egret-proxy", func(context.Context) error {
		return egretproxy.Run(told, egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1, LameDuck: runtest.Patience})
	})
	answers := func() bool { return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com" }
	runtest.Eventually(t, "the gateway answers", answers)
	tell()
	o := &operator{t: t, url: "http://" + admin.String()}
	runtest.Eventually(t, "it is no longer ready", func() bool {
		status, body := o.do("GET", "/ready")
		return status == http.StatusServiceUnavailable && body == "DRAINING\n"
	})
	if !answers() {
		t.Error("a client that came late gets no answer")
	}
	if status, _ := o.do("POST", "/quitquitquit"); status != http.StatusOK {
		t.Errorf("quitquitquit: %d", status)
	}
}
