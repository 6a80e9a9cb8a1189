package install

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// defaultHub is where the images are where nobody says.
const defaultHub = "egret-mesh"

func newPlan(r Request, profile string, spec tree) (*Plan, error) {
	values := merged(nil, branch(spec, "values"))
	namespace := cmp.Or(text(spec, "namespace"), text(values, "global", "istioNamespace"), "istio-system")
	if !istioapi.IsLabel(namespace) {
		return nil, fmt.Errorf("namespace %q is no name of a namespace", namespace)
	}
	revision := cmp.Or(text(spec, "revision"), text(values, "revision"))
	if revision == "default" {
		revision = ""
	}
	if revision != "" && !istioapi.IsLabel(revision) {
		return nil, fmt.Errorf("revision %q is no label of DNS: lower-case letters, digits and \"-\"", revision)
	}
	values["revision"] = revision
	values["meshConfig"] = merged(branch(values, "meshConfig"), branch(spec, "meshConfig"))
	values["global"] = merged(branch(values, "global"), tree{
		"hub":            cmp.Or(plain(spec["hub"]), plain(at(values, "global", "hub")), defaultHub),
		"tag":            cmp.Or(plain(spec["tag"]), plain(at(values, "global", "tag")), imageTag(r.Version)),
		"istioNamespace": namespace,
	})
	p := &Plan{Profile: profile, Namespace: namespace, Revision: revision, Version: r.Version, charts: r.Charts, force: r.Force}
	if err := p.addReleases(spec, values); err != nil {
		return nil, err
	}
	return p, nil
}

// plain is a name that may look like a number: a tag such as 1.
func plain(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

var notOfTag = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// imageTag is the tag of images that were built with the program.
func imageTag(version string) string {
	if version == "" || version == "unknown" || version == "(devel)" {
		return "latest"
	}
	return strings.Trim(notOfTag.ReplaceAllString(version, "-"), ".-")
}

func (p *Plan) addReleases(spec, values tree) error {
	components := branch(spec, "components")
	for _, name := range []string{"cni", "ztunnel", "istiodRemote"} {
		if enabled(branch(components, name)) {
			return fmt.Errorf("components.%s: egret has no such component", name)
		}
	}
	if enabled(branch(components, "base")) {
		p.Releases = append(p.Releases, Release{"Base", "Custom resource definitions", "base", "istio-base", p.Namespace,
			tree{"base": merged(nil, branch(values, "base")), "global": tree{"istioNamespace": p.Namespace}}})
	}
	if pilot := branch(components, "pilot"); enabled(pilot) {
		v, err := p.pilotValues(pilot, values)
		if err != nil {
			return err
		}
		p.Releases = append(p.Releases, Release{"Pilot", "Istiod", "istiod", "istiod", p.Namespace, v})
	}
	for _, kind := range []struct{ list, component, title string }{
		{"ingressGateways", "IngressGateways", "Ingress gateway"}, {"egressGateways", "EgressGateways", "Egress gateway"},
	} {
		list, _ := components[kind.list].([]any)
		for i, item := range list {
			g, ok := item.(tree)
			if !ok || text(g, "name") == "" {
				return fmt.Errorf("components.%s[%d] has no name", kind.list, i)
			}
			if !enabled(g) {
				continue
			}
			v, err := p.gatewayValues(g, values)
			if err != nil {
				return fmt.Errorf("components.%s[name:%s].k8s: %w", kind.list, text(g, "name"), err)
			}
			p.Releases = append(p.Releases, Release{kind.component, fmt.Sprintf("%s %s", kind.title, text(g, "name")),
				"gateway", text(g, "name"), cmp.Or(text(g, "namespace"), p.Namespace), v})
		}
	}
	return nil
}

func enabled(component tree) bool { on, _ := component["enabled"].(bool); return on }

// pilotValues are those of chart istiod.
func (p *Plan) pilotValues(component, values tree) (tree, error) {
	k8s := branch(component, "k8s")
	pilot := merged(nil, branch(values, "pilot"))
	for _, name := range []string{"resources", "nodeSelector", "tolerations", "affinity", "podAnnotations", "serviceAnnotations", "replicaCount"} {
		if v, ok := k8s[name]; ok {
			pilot[name] = mergedValue(pilot[name], v)
		}
	}
	copyTo(pilot, branch(k8s, "hpaSpec"), map[string]string{"minReplicas": "autoscaleMin", "maxReplicas": "autoscaleMax"})
	env, err := environment(k8s)
	if err != nil {
		return nil, fmt.Errorf("components.pilot.k8s: %w", err)
	}
	pilot["env"] = merged(branch(pilot, "env"), env)
	out := tree{"pilot": pilot}
	for _, name := range []string{"global", "meshConfig", "meshNetworks", "sidecarInjectorWebhook", "revision"} {
		if v, ok := values[name]; ok {
			out[name] = v
		}
	}
	global := merged(branch(values, "global"), nil)
	copyTo(global, k8s, map[string]string{"priorityClassName": "priorityClassName", "imagePullPolicy": "imagePullPolicy"})
	out["global"] = global
	return out, nil
}

// gatewayValues are those of chart gateway, from Istio's for gateways of a profile.
func (p *Plan) gatewayValues(component, values tree) (tree, error) {
	name, k8s := text(component, "name"), branch(component, "k8s")
	given := branch(values, "gateways", name)
	service, scaling, rolling := tree{}, tree{}, tree{}
	out := tree{"name": name, "revision": p.Revision, "global": values["global"], "meshConfig": values["meshConfig"]}
	copyTo(service, given, map[string]string{"type": "type", "ports": "ports", "loadBalancerIP": "loadBalancerIP", "serviceAnnotations": "annotations",
		"loadBalancerSourceRanges": "loadBalancerSourceRanges", "externalTrafficPolicy": "externalTrafficPolicy", "externalIPs": "externalIPs"})
	service = merged(service, branch(k8s, "service"))
	copyTo(service, k8s, map[string]string{"serviceAnnotations": "annotations"})
	copyTo(scaling, given, map[string]string{"autoscaleEnabled": "enabled", "autoscaleMin": "minReplicas", "autoscaleMax": "maxReplicas"})
	copyTo(scaling, branch(k8s, "hpaSpec"), map[string]string{"minReplicas": "minReplicas", "maxReplicas": "maxReplicas"})
	copyTo(rolling, given, map[string]string{"rollingMaxSurge": "maxSurge", "rollingMaxUnavailable": "maxUnavailable"})
	out["service"], out["autoscaling"], out["strategy"] = service, scaling, tree{"rollingUpdate": rolling}
	// As Istio's charts for the gateways of profiles, which are not those of its chart gateway.
	out["serviceAccount"] = tree{"name": name + "-service-account"}
	if at(values, "global", "defaultPodDisruptionBudget", "enabled") != false {
		out["podDisruptionBudget"] = tree{"minAvailable": 1}
	}
	same := map[string]string{"imagePullPolicy": "imagePullPolicy", "priorityClassName": "priorityClassName"}
	for _, n := range []string{"resources", "nodeSelector", "tolerations", "affinity", "podAnnotations", "replicaCount", "labels", "volumes", "volumeMounts"} {
		same[n] = n
	}
	copyTo(out, branch(values, "global"), map[string]string{"imagePullPolicy": "imagePullPolicy", "priorityClassName": "priorityClassName"})
	copyTo(out, given, same)
	copyTo(out, k8s, same)
	copyTo(out, component, map[string]string{"label": "labels"})
	env, err := environment(k8s)
	out["env"] = merged(branch(given, "env"), env)
	return out, err
}

// copyTo merges what from has into to, under other names.
func copyTo(to, from tree, names map[string]string) {
	for have, want := range names {
		if v, ok := from[have]; ok {
			to[want] = mergedValue(to[want], v)
		}
	}
}

// environment is k8s.env, a list of Kubernetes' EnvVar, by name.
func environment(k8s tree) (tree, error) {
	list, _ := k8s["env"].([]any)
	out := tree{}
	for i, item := range list {
		e, _ := item.(tree)
		if text(e, "name") == "" || e["valueFrom"] != nil {
			return nil, fmt.Errorf("env[%d] is not a name with a value", i)
		}
		out[text(e, "name")] = plain(e["value"])
	}
	return out, nil
}
