package xdsgen

import (
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

func TestAccessLog(t *testing.T) {
	const meshConfig = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    "
	const providers = `{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, extensionProviders: [{name: p, envoyFileAccessLog: {path: /p, logFormat: {text: `
	telemetry := func(provider, rest string) string {
		return "\n---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t, namespace: istio-system}\nspec: {accessLogging: [{providers: [{name: " + provider + "}]" + rest + "}]}\n"
	}
	for name, c := range map[string]struct {
		yaml, file, wantPath string
		wantText             string
		wantKeys             int
	}{
		"off":          {"", "", "", "", 0},
		"option":       {"", "/dev/stdout", "/dev/stdout", DefaultTextFormat, 0},
		"meshconfig":   {meshConfig + "accessLogFile: /log", "/dev/stdout", "/log", DefaultTextFormat, 0},
		"unsaid":       {meshConfig + "connectTimeout: 1s", "/dev/stdout", "/dev/stdout", DefaultTextFormat, 0},
		"format":       {meshConfig + "accessLogFormat: 'x %PROTOCOL%'", "/l", "/l", "x %PROTOCOL%\n", 0},
		"json":         {meshConfig + "accessLogEncoding: JSON", "/l", "/l", "", 24},
		"provider":     {meshConfig + providers + `"x"}}}], defaultProviders: {accessLogging: [p]}}`, "/l", "/p", "x\n", 0},
		"labels":       {meshConfig + strings.Replace(providers, "text: ", "labels: ", 1) + `{a: "%PROTOCOL%", b: "x"}}}}]}` + telemetry("p", ""), "/l", "/p", "", 2},
		"no labels":    {meshConfig + strings.Replace(providers, "text: ", "labels: ", 1) + `{}}}}]}` + telemetry("p", ""), "/l", "/p", "", 24},
		"standard":     {telemetry("envoy", ""), "/l", "/dev/stdout", DefaultTextFormat, 0},
		"telemetry":    {telemetry("none", ""), "/l", "", "", 0},
		"json written": {meshConfig + `{accessLogEncoding: JSON, accessLogFormat: '{"a": "%PROTOCOL%"}'}`, "/l", "/l", "", 1},
	} {
		g := world{yaml: c.yaml, options: mesh.Options{AccessLogFile: c.file}}.generate(t, sidecarNode)
		l := g.listeners["virtualOutbound"]
		p := unpackAny[*tcpproxyv3.TcpProxy](t, l.GetFilterChains()[1].GetFilters()[0].GetTypedConfig())
		if c.wantPath == "" {
			if len(p.GetAccessLog())+len(l.GetAccessLog()) != 0 {
				t.Errorf("%s: there is an access log", name)
			}
			continue
		}
		if got := l.GetAccessLog()[0].GetFilter().GetResponseFlagFilter().GetFlags(); len(got) != 1 || got[0] != "NR" {
			t.Errorf("%s: the listener's log has flags %q", name, got)
		}
		f := unpackAny[*fileaccesslogv3.FileAccessLog](t, p.GetAccessLog()[0].GetTypedConfig())
		format := f.GetLogFormat()
		if f.GetPath() != c.wantPath || format.GetTextFormatSource().GetInlineString() != c.wantText ||
			len(format.GetJsonFormat().GetFields()) != c.wantKeys {
			t.Errorf("%s: got %v", name, f)
		}
	}
}

// An expression filters the traffic's log, and the listener's together with its flag.
func TestAccessLogExpression(t *testing.T) {
	g := world{yaml: `apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: errors}
spec:
  accessLogging:
  - filter: {expression: "response.code >= 400"}
`, options: mesh.Options{AccessLogFile: "/l"}}.generate(t, sidecarNode)
	l := g.listeners["virtualOutbound"]
	p := unpackAny[*tcpproxyv3.TcpProxy](t, l.GetFilterChains()[1].GetFilters()[0].GetTypedConfig())
	expression := func(f *accesslogv3.AccessLogFilter) string {
		return unpackAny[*celfilterv3.ExpressionFilter](t, f.GetExtensionFilter().GetTypedConfig()).GetExpression()
	}
	if got := expression(p.GetAccessLog()[0].GetFilter()); got != "response.code >= 400" {
		t.Errorf("traffic: %q", got)
	}
	and := l.GetAccessLog()[0].GetFilter().GetAndFilter().GetFilters()
	if len(and) != 2 || and[0].GetResponseFlagFilter().GetFlags()[0] != "NR" || expression(and[1]) != "response.code >= 400" {
		t.Errorf("listener: %v", and)
	}
}
