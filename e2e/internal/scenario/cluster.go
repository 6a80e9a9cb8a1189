package scenario

import (
	"regexp"
	"strings"
)

// site is the host that the scenarios call beside those of the lab: it answers
// http://HOST/ with 200.
const site = "api.example.com"

// Cluster is where the scenarios run.
type Cluster struct {
	// Foreign: its nodes are somebody's, so that none of them may be harmed.
	Foreign bool
	// Site takes the place of site, where the cluster's internet has no such host.
	Site string
	// InstallFlags come after those of each install.
	InstallFlags string
}

// install is the lab's command with more settings, which win.
func (c Cluster) install(more string) string {
	return strings.Join(strings.Fields("istioctl install --set profile=demo "+
		"--set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY -y "+c.InstallFlags+" "+more), " ")
}

// local is text, an object or a command or a pattern, with the cluster's own site.
func (c Cluster) local(text string) string {
	if c.Site == "" {
		return text
	}
	text = strings.ReplaceAll(text, regexp.QuoteMeta(site), regexp.QuoteMeta(c.Site))
	return strings.ReplaceAll(text, site, c.Site)
}

func (c Cluster) localSteps(steps []Step) []Step {
	out := make([]Step, len(steps))
	for i, s := range steps {
		s.Run, s.Want, s.Not = c.local(s.Run), c.local(s.Want), c.local(s.Not)
		out[i] = s
	}
	return out
}
