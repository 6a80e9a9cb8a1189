package xdsgen

import (
	"testing"

	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

func TestAccessLog(t *testing.T) {
	const meshConfig = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    "
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
