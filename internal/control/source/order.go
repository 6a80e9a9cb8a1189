package source

import "github.com/egret-mesh/egret/internal/control/istioapi"

// withOrder returns the object with Order set: itself, or a copy, because objects that
// were published are never written to.
func withOrder(object istioapi.Object, order int) istioapi.Object {
	if object.Common().Order == order {
		return object
	}
	out := istioapi.Copy(object)
	out.Common().Order = order
	return out
}
