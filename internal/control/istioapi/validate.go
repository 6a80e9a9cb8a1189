package istioapi

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// Rules are what validation depends on. The zero value is for proxies on one machine.
type Rules struct {
	// Pods: the proxies are those of pods, so each has a certificate of the mesh
	// (ISTIO_MUTUAL).
	Pods bool
}

// Validate is the method of Rules for proxies on one machine.
func Validate(object Object) []Problem { return Rules{}.Validate(object) }

// Decode is the function Decode with these rules.
func (r Rules) Decode(file string, data []byte) (Objects, []Problem) {
	return decode(file, data, r, nil)
}

// Validate checks one object by itself, with Istio's rules (istio/istio
// pkg/config/validation and the CRD schemas) and, where Istio has something that
// Egret does not do, by telling so: a Warning of CodeNotImplemented when the field
// is ignored, an Error of CodeNotSupported when ignoring it would change what is
// allowed or where bytes go.
func (r Rules) Validate(object Object) []Problem {
	c := &checker{m: object.Common(), object: object, rules: r}
	c.metadata()
	switch t := object.(type) {
	case *ServiceEntry:
		c.serviceEntry(t.Spec)
	case *Gateway:
		c.gateway(t.Spec)
	case *VirtualService:
		c.virtualService(t.Spec)
	case *DestinationRule:
		c.destinationRule(t.Spec)
	case *Sidecar:
		c.sidecar(t.Spec)
	case *WorkloadEntry:
		c.workloadEntry(t.Spec, "spec", nil, true)
	case *PeerAuthentication:
		c.peerAuthentication(t.Spec)
	case *Telemetry:
		c.telemetry(t.Spec)
	case *MeshConfig:
		c.meshConfig(t.Spec)
	}
	return c.problems
}

// checker collects the problems of one object.
type checker struct {
	m        *Meta
	object   Object
	rules    Rules
	problems []Problem
}

func (c *checker) fail(code, path, format string, args ...any) {
	c.problems = append(c.problems, c.m.Problem(Error, code, path, format, args...))
}

func (c *checker) warn(code, path, format string, args ...any) {
	c.problems = append(c.problems, c.m.Problem(Warning, code, path, format, args...))
}

func (c *checker) info(code, path, format string, args ...any) {
	c.problems = append(c.problems, c.m.Problem(Info, code, path, format, args...))
}

// ignored warns about a field that Istio has and Egret does not do.
func (c *checker) ignored(set bool, path, meaning string) {
	if set {
		c.warn(CodeNotImplemented, path, "is ignored: egret does not do this yet; %s", meaning)
	}
}

// refused fails for a field that Egret does not do and must not ignore.
func (c *checker) refused(set bool, path, meaning string) {
	if set {
		c.fail(CodeNotSupported, path, "egret does not support this yet: %s", meaning)
	}
}

func (c *checker) host(path string, err error) bool {
	if err != nil {
		c.fail(CodeInvalidHost, path, "%v", err)
	}
	return err == nil
}

func (c *checker) port(path string, number uint32) {
	if number < 1 || number > 65535 {
		c.fail(CodeInvalidPort, path, "%d is not a port number (1 to 65535)", number)
	}
}

func (c *checker) cidr(path, value string) {
	p, err := ParseCIDR(value)
	switch {
	case err != nil:
		c.fail(CodeInvalidAddress, path, "%v", err)
	case p != p.Masked():
		c.warn(CodeNoEffect, path, "%s means the whole range %s", value, p.Masked())
	}
}

func (c *checker) label(path, what, value string) {
	if !IsLabel(value) {
		c.fail(CodeInvalid, path, "%q is not a valid %s: lower case letters, digits and inner hyphens, at most 63", value, what)
	}
}

// duration refuses values under a millisecond, as Istio does.
func (c *checker) duration(path string, d *durationpb.Duration) {
	if d != nil && d.AsDuration() < time.Millisecond {
		c.fail(CodeInvalid, path, "%s is too short: at least 1ms", d.AsDuration())
	}
}

var (
	labelName  = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)$`)
	labelValue = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)?$`)
)

// labels checks Kubernetes' rules for label keys and values.
func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		name := key
		if prefix, rest, ok := strings.Cut(key, "/"); ok {
			if name = rest; !isSubdomain(prefix) {
				name = ""
			}
		}
		if !labelName.MatchString(name) {
			c.fail(CodeInvalid, join(path, key), "%q is not a valid label name", key)
		}
		if !labelValue.MatchString(labels[key]) {
			c.fail(CodeInvalid, join(path, key), "%q is not a valid label value", labels[key])
		}
	}
}

// selector checks a workload selector; Istio has no wildcards there.
func (c *checker) selector(path string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		if strings.Contains(key+labels[key], "*") {
			c.fail(CodeInvalid, join(path, key), "wildcards are not allowed in a selector")
			return
		}
	}
	if len(labels) == 0 {
		c.warn(CodeNoEffect, path, "has no labels: it selects every workload of the namespace")
	}
	c.labels(path, labels)
}

func (c *checker) metadata() {
	switch {
	case c.m.Kind == "Namespace":
		c.label("metadata.name", "namespace", c.m.Name)
	case !isSubdomain(c.m.Name):
		c.fail(CodeInvalid, "metadata.name", "%q is not a valid name: lower case letters, digits, hyphens and dots, at most 253", c.m.Name)
	}
	if c.m.Kind != "Namespace" {
		c.label("metadata.namespace", "namespace", c.m.Namespace)
	}
	c.labels("metadata.labels", c.m.Labels)
}

// exportTo checks the list of namespaces an object is visible in. "~" (nobody) is
// for ServiceEntry only.
func (c *checker) exportTo(path string, list []string, none bool) {
	var seen []string
	for i, e := range list {
		at := index(path, i)
		key := e
		if e == "." {
			key = c.m.Namespace
		}
		switch {
		case slices.Contains(seen, key):
			c.fail(CodeDuplicate, at, "%q is there twice", e)
		case e == "~" && !none:
			c.fail(CodeInvalid, at, "%q (visible to nobody) is not possible here", e)
		case e == "*" || e == "~":
			if len(list) > 1 {
				c.fail(CodeConflict, at, "%q excludes other entries", e)
			}
		case !IsLabel(key):
			c.fail(CodeInvalid, at, `%q is not a namespace, "." (this namespace) or "*" (all)`, e)
		}
		seen = append(seen, key)
	}
}

// maxRegex is the length Istio allows for a regular expression.
const maxRegex = 1024

func (c *checker) regex(path, expression string) {
	switch _, err := regexp.Compile(expression); {
	case expression == "":
		c.fail(CodeInvalid, path, "a regular expression must not be empty")
	case len(expression) > maxRegex:
		c.fail(CodeInvalid, path, "the regular expression is longer than %d bytes", maxRegex)
	case err != nil:
		c.fail(CodeInvalid, path, "not a valid regular expression (RE2 syntax): %v", err)
	}
}

func (c *checker) protocol(path, protocol string) {
	if _, ok := protocols[strings.ToLower(protocol)]; !ok {
		c.fail(CodeInvalid, path, "%q is not a protocol; use one of %s%s", protocol,
			strings.Join(protocolNames, ", "), Suggest(protocol, protocolNames))
	}
}
