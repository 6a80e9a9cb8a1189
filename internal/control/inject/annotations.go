package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// checks are what the values of a pod's annotations may be. What passes is safe to stand
// in a template inside of double quotes.
var checks = map[string]func(string) error{
	"traffic.sidecar.istio.io/includeInboundPorts":     portsOrAll,
	"traffic.sidecar.istio.io/excludeInboundPorts":     ports,
	"traffic.sidecar.istio.io/includeOutboundPorts":    ports,
	"traffic.sidecar.istio.io/excludeOutboundPorts":    ports,
	"traffic.sidecar.istio.io/includeOutboundIPRanges": rangesOrAll,
	"traffic.sidecar.istio.io/excludeOutboundIPRanges": ranges,
	"traffic.sidecar.istio.io/kubevirtInterfaces":      names,
	"traffic.sidecar.istio.io/excludeInterfaces":       names,
	"istio.io/reroute-virtual-interfaces":              names,

	"sidecar.istio.io/proxyCPU":              quantity,
	"sidecar.istio.io/proxyCPULimit":         quantity,
	"sidecar.istio.io/proxyMemory":           quantity,
	"sidecar.istio.io/proxyMemoryLimit":      quantity,
	annotationImage:                          form(`^[a-z0-9][a-zA-Z0-9._/:@-]*$`, "the name of an image"),
	annotationImageType:                      form(`^[a-z0-9-]{1,30}$`, "a type of image"),
	"sidecar.istio.io/logLevel":              oneOf("trace", "debug", "info", "warning", "warn", "error", "critical", "off"),
	"sidecar.istio.io/agentLogLevel":         form(`^([a-z-]+:)?[a-z]+(,[a-z-]+:[a-z]+)*$`, "scope:level"),
	"sidecar.istio.io/componentLogLevel":     form(`^[a-z_0-9]+:[a-z]+(,[a-z_0-9]+:[a-z]+)*$`, "component:level"),
	annotationMode:                           mode,
	annotationProbes:                         boolean,
	annotationNative:                         boolean,
	annotationMerge:                          boolean,
	"sidecar.istio.io/userVolume":            object,
	"sidecar.istio.io/userVolumeMount":       object,
	"sidecar.istio.io/bootstrapOverride":     form(`^[a-z0-9.-]{1,253}$`, "the name of a ConfigMap"),
	"status.sidecar.istio.io/port":           portOrNone,
	"sidecar.istio.io/capNetBindService":     boolean,
	"sidecar.istio.io/enableCoreDump":        boolean,
	annotationTemplates:                      form(`^ *[A-Za-z0-9._-]+ *(, *[A-Za-z0-9._-]+ *)*$`, "names of templates"),
	annotationStatus:                         object,
	annotationOverrides:                      object,
	"sidecar.istio.io/discoveryAddress":      form(`^[A-Za-z0-9.:\[\]-]+$`, "host:port"),
	"sidecar.istio.io/statsHistogramBuckets": object,

	"readiness.status.sidecar.istio.io/initialDelaySeconds": number,
	"readiness.status.sidecar.istio.io/periodSeconds":       number,
	"readiness.status.sidecar.istio.io/failureThreshold":    number,
	"readiness.status.sidecar.istio.io/applicationPorts":    ports,
}

// unused are annotations that ask Istio for what there is not here.
var unused = map[string]string{
	"sidecar.istio.io/componentLogLevel": "the proxy's log has one level",
	"sidecar.istio.io/bootstrapOverride": "there is no Envoy to override the bootstrap of",
	"sidecar.istio.io/enableCoreDump":    "the proxy dumps no core",
	"sidecar.istio.io/capNetBindService": "the proxy has no capabilities",
	"sidecar.istio.io/discoveryAddress":  "use discoveryAddress of " + annotationConfig,
	annotationMerge:                      "the application's metrics stay where they are",
}

// checkAnnotations refuses bad values by the annotation's name, and tells what is not used.
func checkAnnotations(all map[string]string) (warnings []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		check, known := checks[name]
		if known {
			if err := check(all[name]); err != nil {
				return nil, fmt.Errorf("the annotation %s is %s: %w", name, shorten(all[name]), err)
			}
		}
		if why, ok := unused[name]; ok {
			warnings = append(warnings, fmt.Sprintf("the annotation %s is not used: %s", name, why))
		}
		group, _, _ := strings.Cut(name, "/")
		if !known && name != annotationInject && (group == "sidecar.istio.io" || group == "traffic.sidecar.istio.io") {
			warnings = append(warnings, fmt.Sprintf("the annotation %s is not known", name))
		}
	}
	return warnings, nil
}

// shorten quotes a text of a stranger for a message.
func shorten(text string) string {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return strconv.Quote(text)
}

func form(pattern, what string) func(string) error {
	r := regexp.MustCompile(pattern)
	return func(s string) error {
		if !r.MatchString(s) {
			return fmt.Errorf("not %s", what)
		}
		return nil
	}
}

func oneOf(all ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(all, s) {
			return fmt.Errorf("not one of %s", strings.Join(all, ", "))
		}
		return nil
	}
}

func boolean(s string) error {
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("neither true nor false")
	}
	return nil
}

func number(s string) error {
	if n, err := strconv.ParseUint(s, 10, 31); err != nil || strconv.FormatUint(n, 10) != s {
		return fmt.Errorf("not a number")
	}
	return nil
}

func portOrNone(s string) error {
	if s == "0" {
		return nil
	}
	return port(s)
}

func port(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s is not a port", shorten(s))
	}
	return nil
}

func ports(s string) error { return each(s, port) }

func portsOrAll(s string) error {
	if s == "*" {
		return nil
	}
	return ports(s)
}

func ranges(s string) error {
	return each(s, func(part string) error {
		if _, err := netip.ParsePrefix(part); err != nil {
			return fmt.Errorf("%s is not a range of addresses (as 10.0.0.0/8)", shorten(part))
		}
		return nil
	})
}

func rangesOrAll(s string) error {
	if s == "*" {
		return nil
	}
	return ranges(s)
}

var device = form(`^[A-Za-z0-9_.@-]{1,15}$`, "the name of an interface")

func names(s string) error { return each(s, device) }

// each checks what commas separate; nothing between them is nothing.
func each(s string, check func(string) error) error {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if err := check(part); err != nil {
			return err
		}
	}
	return nil
}

func mode(s string) error {
	if s == "TPROXY" {
		return fmt.Errorf("only REDIRECT and NONE are done here")
	}
	return oneOf("REDIRECT", "NONE")(s)
}

func quantity(s string) error {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return fmt.Errorf("not a quantity (as 100m or 128Mi)")
	}
	if q.Sign() < 0 {
		return fmt.Errorf("below zero")
	}
	return nil
}

func object(s string) error {
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return fmt.Errorf("not a JSON object")
	}
	return nil
}
