package install

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// anyTree marks in a known tree that everything is taken below.
const anyTree = "any"

// openNames are maps of a chart's values that take what Kubernetes does.
var openNames = []string{"resources", "seccompProfile", "meshConfig", "lifecycle", "strategy"}

// gatewayValues are those of values.gateways.NAME, as Istio's gateway charts have them.
var gatewayValues = []string{"name", "type", "ports", "labels", "env", "resources", "replicaCount",
	"autoscaleEnabled", "autoscaleMin", "autoscaleMax", "rollingMaxSurge", "rollingMaxUnavailable",
	"serviceAnnotations", "podAnnotations", "nodeSelector", "tolerations", "affinity",
	"loadBalancerIP", "loadBalancerSourceRanges", "externalTrafficPolicy", "externalIPs", "volumes", "volumeMounts"}

// k8sSettings are those of components' k8s.
var k8sSettings = []string{"resources", "replicaCount", "env", "nodeSelector", "tolerations", "affinity",
	"podAnnotations", "service", "serviceAnnotations", "hpaSpec", "priorityClassName", "imagePullPolicy"}

// knownSpec is a tree of all that a spec may have. MeshConfig is open: istioapi judges it.
func knownSpec(charts fs.FS) (tree, error) {
	values := tree{}
	for _, chart := range []string{"base", "istiod"} {
		v, err := chartValues(charts, chart)
		if err != nil {
			return nil, err
		}
		values = merged(values, v)
	}
	gateway := names(gatewayValues)
	values["gateways"] = tree{"istio-ingressgateway": gateway, "istio-egressgateway": gateway}
	k8s := names(k8sSettings)
	k8s["hpaSpec"] = tree{"minReplicas": anyTree, "maxReplicas": anyTree}
	k8s["service"] = names([]string{"type", "ports", "loadBalancerIP", "loadBalancerSourceRanges", "externalTrafficPolicy", "externalIPs", "clusterIP"})
	one := tree{"enabled": anyTree, "k8s": k8s}
	gateways := []any{tree{"enabled": anyTree, "k8s": k8s, "name": anyTree, "namespace": anyTree, "label": anyTree}}
	off := tree{"enabled": anyTree}
	return tree{
		"profile": anyTree, "hub": anyTree, "tag": anyTree, "revision": anyTree, "namespace": anyTree,
		"meshConfig": anyTree, "values": values,
		"components": tree{"base": one, "pilot": one, "ingressGateways": gateways, "egressGateways": gateways,
			"cni": off, "ztunnel": off, "istiodRemote": off},
	}, nil
}

func names(list []string) tree {
	t := tree{}
	for _, n := range list {
		t[n] = anyTree
	}
	return t
}

func chartValues(charts fs.FS, chart string) (tree, error) {
	data, err := fs.ReadFile(charts, chart+"/values.yaml")
	if err != nil {
		return nil, err
	}
	var v tree
	return v, yaml.Unmarshal(data, &v)
}

// unknown tells of each path of given that known does not have.
func unknown(given any, known any, path string) []error {
	switch k := known.(type) {
	case []any:
		list, _ := given.([]any)
		var problems []error
		if len(k) == 1 {
			for i, item := range list {
				problems = append(problems, unknown(item, k[0], fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
		return problems
	case tree:
		g, ok := given.(tree)
		last := path[strings.LastIndexByte(path, '.')+1:]
		if !ok || len(k) == 0 || slices.Contains(openNames, last) {
			return nil
		}
		return unknownNames(g, k, path)
	}
	return nil
}

func unknownNames(g, k tree, path string) []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(g)) {
		full := strings.TrimPrefix(path+"."+name, ".")
		below, ok := k[name]
		if !ok {
			problems = append(problems, fmt.Errorf("%s is not known%s%s", full, istioapi.Suggest(name, slices.Sorted(maps.Keys(k))), elsewhere(path, name)))
			continue
		}
		problems = append(problems, unknown(g[name], below, full)...)
	}
	return problems
}

// elsewhere is a hint for values that were given without "values.", as Helm takes them.
func elsewhere(path, name string) string {
	if path == "" && slices.Contains([]string{"global", "pilot", "gateways", "sidecarInjectorWebhook", "base"}, name) {
		return fmt.Sprintf("; Helm's values are below values: values.%s", name)
	}
	return ""
}
