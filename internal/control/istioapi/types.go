// Package istioapi is the border where Istio objects come in: it decodes YAML,
// applies Istio's defaults, and validates as Istio does and beyond. Every problem
// names the file, line, object and field. After it the rest of the control plane
// sees only typed, valid objects.
//
// It must not open files or sockets: bytes in, objects and problems out.
package istioapi

import (
	"fmt"
	"time"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// Position is where an object or field stands. Line counts from 1; 0: unknown.
type Position struct {
	File string
	Line int
}

// String is "file:line".
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Ref names an object.
type Ref struct{ Kind, Namespace, Name string }

// String is "Kind namespace/name"; "Kind name" for what has no namespace.
func (r Ref) String() string {
	switch {
	case r.Name == "":
		return r.Kind
	case r.Namespace == "":
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Meta is what every object has.
type Meta struct {
	Ref
	APIVersion  string // as written, for instance "networking.istio.io/v1beta1"
	Labels      map[string]string
	Annotations map[string]string
	// Created orders objects as Istio does (oldest first, then namespace, then name);
	// objects from files have the order of their appearance.
	Created time.Time
	Order   int
	Position
	// Lines gives the line of a field by its path, for instance
	// "spec.http[0].route[1].destination.host".
	Lines map[string]int
}

// The kinds that Egret reads.
type (
	// ServiceEntry is networking.istio.io ServiceEntry.
	ServiceEntry struct {
		Meta
		Spec *networking.ServiceEntry
	}
	// Gateway is networking.istio.io Gateway.
	Gateway struct {
		Meta
		Spec *networking.Gateway
	}
	// VirtualService is networking.istio.io VirtualService.
	VirtualService struct {
		Meta
		Spec *networking.VirtualService
	}
	// DestinationRule is networking.istio.io DestinationRule.
	DestinationRule struct {
		Meta
		Spec *networking.DestinationRule
	}
	// Sidecar is networking.istio.io Sidecar.
	Sidecar struct {
		Meta
		Spec *networking.Sidecar
	}
	// WorkloadEntry is networking.istio.io WorkloadEntry.
	WorkloadEntry struct {
		Meta
		Spec *networking.WorkloadEntry
	}
	// PeerAuthentication is security.istio.io PeerAuthentication.
	PeerAuthentication struct {
		Meta
		Spec *security.PeerAuthentication
	}
	// Telemetry is telemetry.istio.io Telemetry.
	Telemetry struct {
		Meta
		Spec *telemetry.Telemetry
	}
	// Namespace is a Kubernetes namespace (its name and labels).
	Namespace struct{ Meta }
	// MeshConfig is the "mesh" key of the ConfigMap "istio".
	MeshConfig struct {
		Meta
		Spec *meshconfig.MeshConfig
		// NoAccessLog: accessLogFile is written, and empty. The message cannot tell that
		// from accessLogFile left out.
		NoAccessLog bool
	}
)

// Objects is a set of decoded, valid objects.
type Objects struct {
	ServiceEntries   []*ServiceEntry
	Gateways         []*Gateway
	VirtualServices  []*VirtualService
	DestinationRules []*DestinationRule
	Sidecars         []*Sidecar
	WorkloadEntries  []*WorkloadEntry
	// PeerAuthentications say which callers a workload takes.
	PeerAuthentications []*PeerAuthentication
	Telemetries         []*Telemetry
	Namespaces          []*Namespace
	MeshConfig          *MeshConfig // nil: defaults
}

// Severity of a problem.
type Severity uint8

// Severities. An object with an Error is not used; a Warning is told and used.
const (
	Info Severity = iota
	Warning
	Error
)

// String is "info", "warning" or "error".
func (s Severity) String() string { return [...]string{"info", "warning", "error"}[s] }

// Problem is one finding about one object.
type Problem struct {
	Severity Severity
	// Code is a stable short word, for instance "unknown_field".
	Code string
	Position
	Object  Ref
	Field   string // path, for instance "spec.ports[0].protocol"
	Message string
}

// String is "file:line: severity: Kind ns/name: field: message [code]"; an object that
// comes from no file has no position.
func (p Problem) String() string {
	s := p.Severity.String() + ": "
	if at := p.Position.String(); at != "" {
		s = at + ": " + s
	}
	if p.Object.Kind != "" {
		s += p.Object.String() + ": "
	}
	if p.Field != "" {
		s += p.Field + ": "
	}
	return s + p.Message + " [" + p.Code + "]"
}
