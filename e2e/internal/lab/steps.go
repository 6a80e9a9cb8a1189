package lab

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	table "github.com/egret-mesh/egret/internal/lab"

	"github.com/egret-mesh/egret/e2e/internal/term"
)

func (l *Lab) operational(ctx context.Context) error {
	l.step(1, "Verify that Kubernetes is operational")
	_, err := l.until(ctx, "kubectl get pods -A", l.System...)
	return err
}

func (l *Lab) client(ctx context.Context) error {
	l.step(2, "The client")
	l.say("istioctl is Egret's own program by that name; nothing is downloaded.")
	_, err := l.must(ctx, "istioctl version", `client version: \S+`)
	return err
}

func (l *Lab) install(ctx context.Context) error {
	l.step(3, "Install with the demo profile and outboundTrafficPolicy REGISTRY_ONLY")
	line := `istioctl install --set profile=demo \
  --set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY`
	if l.InstallFlags != "" {
		line += " " + l.InstallFlags
	}
	start := time.Now()
	if _, err := l.must(ctx, line); err != nil {
		_, _ = l.must(ctx, "kubectl get pods -n istio-system; kubectl describe pods -n istio-system | tail -60")
		return err
	}
	l.Times = append(l.Times, Time{"istioctl install until ready", time.Since(start)})
	_, err := l.must(ctx, "kubectl get configmap istio -n istio-system -o yaml | grep outboundTrafficPolicy -A 2",
		`outboundTrafficPolicy:\n +mode: REGISTRY_ONLY`)
	return err
}

func (l *Lab) validate(ctx context.Context) error {
	l.step(4, "Validate the installation")
	_, err := l.until(ctx, "kubectl get pods -n istio-system", `istio-egressgateway-\S+ +1/1 +Running`,
		`istio-ingressgateway-\S+ +1/1 +Running`, `istiod-\S+ +1/1 +Running`)
	return err
}

func (l *Lab) withoutSidecar(ctx context.Context) error {
	l.step(5, "A pod without a sidecar")
	if err := l.newTestPod(ctx, "pod without sidecar until ready"); err != nil {
		return err
	}
	l.say("Nothing of the mesh is involved: expected 200 OK.")
	return l.row(ctx, table.Row{
		Scenario:  "No sidecar",
		Wikipedia: table.Cell{Want: table.Allowed},
		Google:    table.Cell{Want: table.Allowed},
		Reason:    "No Istio enforcement",
	})
}

func (l *Lab) injection(ctx context.Context) error {
	l.step(6, "Injection in the default namespace")
	if _, err := l.must(ctx, "kubectl label ns default istio-injection=enabled", `namespace/default labeled`); err != nil {
		return err
	}
	if _, err := l.must(ctx, "kubectl delete pod test", `pod "test" deleted`); err != nil {
		return err
	}
	if err := l.newTestPod(ctx, "pod with sidecar until ready"); err != nil {
		return err
	}
	if _, err := l.must(ctx, "kubectl get pod test", `test +2/2 +Running`); err != nil {
		return err
	}
	l.say("REGISTRY_ONLY blocks what no ServiceEntry names: expected 502 Bad Gateway.")
	return l.row(ctx, table.Row{
		Scenario:  "Sidecar + REGISTRY_ONLY",
		Wikipedia: table.Cell{Want: table.Blocked},
		Google:    table.Cell{Want: table.Blocked},
		Reason:    "Blocked unless ServiceEntry exists",
	})
}

func (l *Lab) serviceEntry(ctx context.Context) error {
	l.step(7, "A ServiceEntry for Wikipedia")
	if _, err := l.must(ctx, "kubectl apply -f service_entry.yaml", `serviceentry\S*/wikipedia-egress created`); err != nil {
		return err
	}
	l.say("Wikipedia works; Google is still blocked.")
	return l.row(ctx, table.Row{
		Scenario:  "ServiceEntry only",
		Wikipedia: table.Cell{Want: table.Allowed},
		Google:    table.Cell{Want: table.Blocked},
		Reason:    "Wikipedia registered, Google not",
	})
}

func (l *Lab) whyBlocked(ctx context.Context) error {
	l.step(8, "Why does Google still return 502?")
	l.say("The sidecar knows no cluster for it: its access log says so.")
	_, err := l.until(ctx, "kubectl logs test -c istio-proxy --tail=20 | grep www.google.com | tail -n 1",
		`" 502 .*"www\.google\.com".* block_all`)
	return err
}

// gatewayPod finds the name that the lab writes as <egressgateway-pod>.
func (l *Lab) gatewayPod(ctx context.Context) (string, error) {
	r, err := l.must(ctx, "kubectl get pod -n istio-system")
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(`(?m)^istio-egressgateway-\S+`).FindString(r.Output)
	if name == "" {
		return "", errors.New("no pod of the egress gateway")
	}
	return name, nil
}

func (l *Lab) gatewayLogs(ctx context.Context) error {
	l.step(9, "Inspect the egress gateway's log")
	pod, err := l.gatewayPod(ctx)
	if err != nil {
		return err
	}
	logs, err := l.Shell.Follow(ctx, "kubectl logs -f -n istio-system "+pod)
	if err != nil {
		return err
	}
	defer logs.Stop()
	if _, err := l.call(ctx, google, table.Blocked); err != nil {
		return err
	}
	if _, err := l.call(ctx, wikipedia, table.Allowed); err != nil {
		return err
	}
	l.say("No call went through the gateway yet: the ServiceEntry only allows direct egress.")
	return nothingOf(logs, wikipedia, google)
}

// accessLog are the lines of requests to a host; a gateway logs more than those.
func accessLog(logs *term.Follow, host string) []string {
	return slices.DeleteFunc(logs.Lines(strconv.Quote(host)), func(line string) bool { return !strings.HasPrefix(line, "[") })
}

// nothingOf: the log has no line of the hosts.
func nothingOf(logs *term.Follow, hosts ...string) error {
	for _, host := range hosts {
		if lines := accessLog(logs, host); len(lines) > 0 {
			return fmt.Errorf("the egress gateway's log has lines of %s:\n%s", host, strings.Join(lines, "\n"))
		}
	}
	return nil
}

func (l *Lab) routeThroughGateway(ctx context.Context) error {
	l.step(10, "Route Wikipedia through the egress gateway")
	for _, apply := range []struct{ line, want string }{
		{"kubectl apply -f egressgateway.yaml", `gateway\S*/istio-egressgateway created`},
		{"kubectl apply -f virtualService.yaml", `virtualservice\S*/wikipedia-egress-gateway created`},
		{"kubectl apply -f destinationRules.yaml", `destinationrule\S*/egressgateway-for-wikipedia created`},
	} {
		if _, err := l.must(ctx, apply.line, apply.want); err != nil {
			return err
		}
	}
	return nil
}

// verifyRouting is the last row: the log of the gateway is what tells the way.
func (l *Lab) verifyRouting(ctx context.Context) error {
	l.step(11, "Verify the way through the egress gateway")
	pod, err := l.gatewayPod(ctx)
	if err != nil {
		return err
	}
	logs, err := l.Shell.Follow(ctx, "kubectl logs -f -n istio-system "+pod)
	if err != nil {
		return err
	}
	defer logs.Stop()
	row := table.Row{Scenario: "Egress Gateway configured", Reason: "Only Wikipedia allowed & routed"}
	row.Wikipedia, err = l.viaGateway(ctx, logs)
	var second error
	row.Google, second = l.call(ctx, google, table.Blocked)
	l.Table = append(l.Table, row)
	l.say("The log of the egress gateway:")
	for _, line := range accessLog(logs, wikipedia) {
		fmt.Fprintln(l.Shell.Out, line)
	}
	return errors.Join(err, second, nothingOf(logs, google))
}

// viaGateway calls Wikipedia until the gateway's log has a line of it, and counts the
// lines of the last call.
func (l *Lab) viaGateway(ctx context.Context, logs *term.Follow) (table.Cell, error) {
	cell := table.Cell{Want: table.ViaGateway}
	before := 0
	r, err := l.Shell.Until(ctx, patience, curl(wikipedia), func(r term.Result) bool {
		got := outcome(r)
		now := l.linesAfter(ctx, logs, before)
		got.GatewayLines = now - before
		before = now
		cell.Got = got
		return got.Mark() == table.ViaGateway
	})
	if len(cell.Got.Statuses) == 0 {
		cell.Got.ExitCode = r.ExitCode
	}
	return cell, err
}

// linesAfter waits a little for more lines than before: a log is written after the
// response.
func (l *Lab) linesAfter(ctx context.Context, logs *term.Follow, before int) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if n := len(accessLog(logs, wikipedia)); n > before {
			return n
		}
		select {
		case <-ctx.Done():
			return before
		case <-again.C:
		}
	}
}
