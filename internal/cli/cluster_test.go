package cli

import (
	"strings"
	"testing"
)

func TestForCluster(t *testing.T) {
	here, onCluster, asIstioctl := setting{program: "egret"}, setting{program: "egret", kubeconfig: true}, setting{program: istioctl}
	for _, c := range []struct {
		line    string
		setting setting
		want    bool
	}{
		{"install --set profile=demo", here, true},
		{"--context c install", here, true},
		{"help install", here, true},
		{"manifest generate", here, true},
		{"run -- install", here, false},
		{"run install", onCluster, false},
		{"version", here, false},
		{"version", onCluster, true},
		{"version", asIstioctl, true},
		{"version --remote=false", onCluster, false},
		{"version --kubeconfig x", here, true},
		{"proxy-status", here, false},
		{"proxy-status", onCluster, true},
		{"ps --monitoring-address 127.0.0.1:1", onCluster, false},
		{"proxy-config routes --name 80", onCluster, false},
		{"proxy-config routes web-1.shop --name 80", here, true},
		{"pc clusters", asIstioctl, true},
		{"pc clusters --file x", asIstioctl, false},
		{"analyze", here, false},
		{"analyze", onCluster, true},
		{"analyze -n shop", onCluster, true},
		{"analyze -A", here, true},
		{"analyze policy/", onCluster, false},
		{"analyze policy/ -o json", onCluster, false},
		{"logs --denied", here, true},
		{"explain https://www.google.com", onCluster, false},
		{"explain pod/web https://www.google.com", here, true},
		{"explain -n shop deploy/web https://www.google.com", here, true},
		{"explain web.shop https://www.google.com -o json", here, true},
		{"explain --context c web https://www.google.com", here, true},
		{"explain web https://www.google.com", asIstioctl, true},
		{"explain -f pod/web https://www.google.com", asIstioctl, false},
		{"explain -n shop -X POST https://www.google.com/a/b", onCluster, false},
		{"", onCluster, false},
		{"lab", asIstioctl, false},
	} {
		if got := forCluster(strings.Fields(c.line), c.setting); got != c.want {
			t.Errorf("%q with %+v: %v", c.line, c.setting, got)
		}
	}
}
