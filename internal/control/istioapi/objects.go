package istioapi

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Object is any of the kinds that Egret reads.
type Object interface {
	// Common is the object's metadata; never nil.
	Common() *Meta
}

// Common returns m: by embedding, every kind is an Object.
func (m *Meta) Common() *Meta { return m }

// LineOf is the line of the field with this path (see Meta.Lines). A field that is
// not written has the line of the nearest field around it, at last the object's.
func (m *Meta) LineOf(path string) int {
	for path != "" {
		if line, ok := m.Lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return m.Position.Line
}

// At is the position of a field; see LineOf.
func (m *Meta) At(path string) Position {
	return Position{File: m.File, Line: m.LineOf(path)}
}

// Problem makes a problem of the field with this path.
func (m *Meta) Problem(severity Severity, code, path, format string, args ...any) Problem {
	return Problem{
		Severity: severity, Code: code, Position: m.At(path),
		Object: m.Ref, Field: path, Message: fmt.Sprintf(format, args...),
	}
}

// Add appends an object to the list of its kind; a MeshConfig replaces.
func (o *Objects) Add(object Object) {
	switch t := object.(type) {
	case *ServiceEntry:
		o.ServiceEntries = append(o.ServiceEntries, t)
	case *Gateway:
		o.Gateways = append(o.Gateways, t)
	case *VirtualService:
		o.VirtualServices = append(o.VirtualServices, t)
	case *DestinationRule:
		o.DestinationRules = append(o.DestinationRules, t)
	case *Sidecar:
		o.Sidecars = append(o.Sidecars, t)
	case *WorkloadEntry:
		o.WorkloadEntries = append(o.WorkloadEntries, t)
	case *PeerAuthentication:
		o.PeerAuthentications = append(o.PeerAuthentications, t)
	case *Telemetry:
		o.Telemetries = append(o.Telemetries, t)
	case *Namespace:
		o.Namespaces = append(o.Namespaces, t)
	case *MeshConfig:
		o.MeshConfig = t
	}
}

// All gives every object: kind by kind, in the order of its list.
func (o *Objects) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		ok := each(o.ServiceEntries, yield) && each(o.Gateways, yield) &&
			each(o.VirtualServices, yield) && each(o.DestinationRules, yield) &&
			each(o.Sidecars, yield) && each(o.WorkloadEntries, yield) &&
			each(o.PeerAuthentications, yield) && each(o.Telemetries, yield) && each(o.Namespaces, yield)
		if ok && o.MeshConfig != nil {
			yield(o.MeshConfig)
		}
	}
}

func each[T Object](list []T, yield func(Object) bool) bool {
	for _, object := range list {
		if !yield(object) {
			return false
		}
	}
	return true
}

// Len is the number of objects.
func (o *Objects) Len() int {
	n := len(o.ServiceEntries) + len(o.Gateways) + len(o.VirtualServices) + len(o.DestinationRules) +
		len(o.Sidecars) + len(o.WorkloadEntries) + len(o.PeerAuthentications) + len(o.Telemetries) + len(o.Namespaces)
	if o.MeshConfig != nil {
		n++
	}
	return n
}

// Sort orders problems by file, line and severity, the gravest first.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(b.Severity, a.Severity))
	})
}

// Unique makes one set of objects given in order. Of two objects with the same
// kind, namespace and name the first stays, and the other is told as an Error
// that names both positions.
func Unique(objects iter.Seq[Object]) (Objects, []Problem) {
	var out Objects
	var problems []Problem
	seen := make(map[Ref]*Meta)
	for object := range objects {
		m := object.Common()
		if first, dup := seen[m.Ref]; dup {
			problems = append(problems, m.Problem(Error, CodeDuplicateObject, "metadata.name",
				"is already defined at %s; the first one stays in force", first.Position))
			continue
		}
		seen[m.Ref] = m
		out.Add(object)
	}
	return out, problems
}
