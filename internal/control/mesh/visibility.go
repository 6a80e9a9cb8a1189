package mesh

import "slices"

// visibility is exportTo resolved for one object.
type visibility struct {
	all        bool
	namespaces []string // when not all; empty: nobody ("~")
}

// newVisibility reads exportTo: "." is the object's own namespace, "*" is everybody,
// "~" is nobody, everything else is a namespace. An empty list means the default,
// which for Istio is everybody.
func newVisibility(exportTo, defaults []string, own string) visibility {
	if len(exportTo) == 0 {
		exportTo = defaults
	}
	if len(exportTo) == 0 {
		return visibility{all: true}
	}
	var v visibility
	for _, e := range exportTo {
		switch e {
		case "*":
			return visibility{all: true}
		case "~":
		case ".":
			v.namespaces = append(v.namespaces, own)
		default:
			v.namespaces = append(v.namespaces, e)
		}
	}
	return v
}

// to reports whether the object is visible in namespace.
func (v visibility) to(namespace string) bool {
	return v.all || slices.Contains(v.namespaces, namespace)
}

// onlyTo reports whether namespace is the only one that sees the object.
func (v visibility) onlyTo(namespace string) bool {
	return !v.all && len(v.namespaces) == 1 && v.namespaces[0] == namespace
}

func (v visibility) equal(o visibility) bool {
	return v.all == o.all && slices.Equal(v.namespaces, o.namespaces)
}
