package istioapi

import (
	meshconfig "istio.io/api/mesh/v1alpha1"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/egret-mesh/egret/internal/expression"
)

// telemetry checks what of Telemetry is used: accessLogging. Metrics have all of
// Istio's standard labels, and there are no spans.
func (c *checker) telemetry(t *telemetry.Telemetry) {
	if t.Selector != nil {
		c.selector("spec.selector.matchLabels", t.Selector.MatchLabels)
		if len(t.TargetRefs) > 0 || t.TargetRef != nil {
			c.fail(CodeConflict, "spec.targetRefs", "is not possible together with selector")
		}
	}
	c.ignored(len(t.TargetRefs) > 0 || t.TargetRef != nil, "spec.targetRefs",
		"there are no Gateways of the Kubernetes Gateway API, so that the object selects nothing")
	c.ignored(len(t.Tracing) > 0, "spec.tracing", "the proxy makes no spans")
	c.ignored(len(t.Metrics) > 0, "spec.metrics", "metrics are always there, with Istio's standard names and labels")
	for i, l := range t.AccessLogging {
		c.accessLogging(l, index("spec.accessLogging", i))
	}
}

func (c *checker) accessLogging(l *telemetry.AccessLogging, at string) {
	for i, p := range l.GetProviders() {
		if p.GetName() == "" {
			c.fail(CodeMissing, index(at+".providers", i)+".name", "is required")
		}
	}
	if l.GetMatch().GetMode() == telemetry.WorkloadMode_SERVER {
		c.info(CodeNoEffect, at+".match.mode", "SERVER is about incoming calls, which are not seen here")
	}
	if l.Filter == nil {
		return
	}
	if l.Filter.Expression == "" {
		c.fail(CodeMissing, at+".filter.expression", "is required")
	} else if _, err := expression.Compile(l.Filter.Expression); err != nil {
		c.fail(CodeInvalid, at+".filter.expression", "%v", err)
	}
}

// providers checks the access logs among MeshConfig's extensionProviders.
func (c *checker) providers(list []*meshconfig.MeshConfig_ExtensionProvider, at string) {
	seen := map[string]bool{}
	for i, p := range list {
		at := index(at, i)
		switch {
		case p.Name == "":
			c.fail(CodeMissing, at+".name", "is required")
		case seen[p.Name]:
			c.fail(CodeDuplicate, at+".name", "the provider %q is there twice", p.Name)
		}
		seen[p.Name] = true
		file := p.GetEnvoyFileAccessLog()
		if file == nil {
			c.info(CodeNotImplemented, at, "is not read by egret: only envoyFileAccessLog is")
			continue
		}
		c.logPath(at+".envoyFileAccessLog.path", file.Path)
		c.logFormat(at+".envoyFileAccessLog.logFormat.text", file.GetLogFormat().GetText(), false)
		if labels := file.GetLogFormat().GetLabels(); labels != nil {
			c.jsonFormat(at+".envoyFileAccessLog.logFormat.labels", labels.AsMap())
		}
	}
}
