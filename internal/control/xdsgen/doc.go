// Package xdsgen turns a mesh snapshot and a node into Envoy xDS v3 resources, with
// the names and meanings that a stock istiod gives them. It is pure: the same
// snapshot and node give the same bytes, nothing is opened. A Generator keeps parts that
// it made for the next snapshot (memo.go); that changes what it costs, not what comes out.
//
// Differences from istiod, all on purpose: there is no tracing and no istio.* filter,
// because this proxy guards what goes out; proxies on one machine have no inbound listener and
// no identity (mesh.Options.Pods); ALPN of the mesh's TLS names the version of HTTP by
// cluster, where Istio's filter istio.alpn does it by request; where Istio leaves a TLS origination without any check of the server's name, ours
// checks it; a Gateway's TLS routes are limited to the server's hosts; and metadata
// "egret" names the objects that a resource was made from.
//
// It must not import data or host.
package xdsgen
