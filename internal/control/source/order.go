package source

import "github.com/egret-mesh/egret/internal/control/istioapi"

// withOrder returns the object with Order set: itself, or a shallow copy, because
// objects that were published are never written to.
func withOrder(object istioapi.Object, order int) istioapi.Object {
	if object.Common().Order == order {
		return object
	}
	switch t := object.(type) {
	case *istioapi.ServiceEntry:
		return reordered(*t, order, func(c *istioapi.ServiceEntry) istioapi.Object { return c })
	case *istioapi.Gateway:
		return reordered(*t, order, func(c *istioapi.Gateway) istioapi.Object { return c })
	case *istioapi.VirtualService:
		return reordered(*t, order, func(c *istioapi.VirtualService) istioapi.Object { return c })
	case *istioapi.DestinationRule:
		return reordered(*t, order, func(c *istioapi.DestinationRule) istioapi.Object { return c })
	case *istioapi.Sidecar:
		return reordered(*t, order, func(c *istioapi.Sidecar) istioapi.Object { return c })
	case *istioapi.WorkloadEntry:
		return reordered(*t, order, func(c *istioapi.WorkloadEntry) istioapi.Object { return c })
	case *istioapi.Namespace:
		return reordered(*t, order, func(c *istioapi.Namespace) istioapi.Object { return c })
	case *istioapi.MeshConfig:
		return reordered(*t, order, func(c *istioapi.MeshConfig) istioapi.Object { return c })
	}
	return object
}

func reordered[T any](object T, order int, asObject func(*T) istioapi.Object) istioapi.Object {
	out := asObject(&object)
	out.Common().Order = order
	return out
}
