package xds

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// codec is gRPC's own, and takes frames as they are.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// frame is a response in its wire format. Bodies of resources are not copied into it: it
// refers to them, so a response costs the same memory for one client as for a thousand,
// also while they are slow to read it.
type frame struct {
	data mem.BufferSlice
	own  []byte // what is not in data yet
}

// shareFrom is the size from which a body is referred to, in bytes: below it, a copy
// costs no more than the reference.
const shareFrom = 256

// Field numbers of DiscoveryResponse, DeltaDiscoveryResponse, and of Resource and Any in
// them (envoy/service/discovery/v3/discovery.proto, google/protobuf/any.proto).
const (
	fieldVersion   = 1
	fieldResources = 2
	fieldTypeURL   = 4
	fieldNonce     = 5
	fieldRemoved   = 6

	resourceVersion   = 1
	resourceBody      = 2
	resourceNameField = 3

	anyTypeURL = 1
	anyValue   = 2
)

// newFrame has room for all that is not referred to, so that it is allocated once.
func newFrame(r *response) *frame {
	const tags = 32 // and the lengths of a resource's parts
	room := len(r.version) + len(r.typeURL) + len(r.nonce) + tags
	for _, name := range r.removed {
		room += len(name) + tags
	}
	parts := 1
	for _, res := range r.resources {
		room += len(res.Name) + len(res.Version) + len(res.Body.GetTypeUrl()) + tags
		if n := len(res.Body.GetValue()); n < shareFrom {
			room += n
		} else {
			parts += 2
		}
	}
	return &frame{own: make([]byte, 0, room), data: make(mem.BufferSlice, 0, parts)}
}

// sotwFrame is a DiscoveryResponse.
func sotwFrame(r *response) *frame {
	f := newFrame(r)
	f.text(fieldVersion, r.version)
	f.text(fieldTypeURL, r.typeURL)
	f.text(fieldNonce, r.nonce)
	for _, res := range r.resources {
		f.begin(fieldResources, anySize(res))
		f.body(res)
	}
	f.cut()
	return f
}

// deltaFrame is a DeltaDiscoveryResponse.
func deltaFrame(r *response) *frame {
	f := newFrame(r)
	f.text(fieldVersion, r.version)
	f.text(fieldTypeURL, r.typeURL)
	f.text(fieldNonce, r.nonce)
	for _, name := range r.removed {
		f.own = protowire.AppendString(protowire.AppendTag(f.own, fieldRemoved, protowire.BytesType), name)
	}
	for _, res := range r.resources {
		inner := anySize(res)
		f.begin(fieldResources, textSize(res.Version)+textSize(res.Name)+1+protowire.SizeBytes(inner))
		f.text(resourceVersion, res.Version)
		f.text(resourceNameField, res.Name)
		f.begin(resourceBody, inner)
		f.body(res)
	}
	f.cut()
	return f
}

// textSize is the size of a string field with a number under 16; an empty one is left out.
func textSize(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}

func anySize(r Resource) int {
	n := textSize(r.Body.GetTypeUrl())
	if size := len(r.Body.GetValue()); size > 0 {
		n += 1 + protowire.SizeBytes(size)
	}
	return n
}

func (f *frame) text(number protowire.Number, s string) {
	if s != "" {
		f.own = protowire.AppendString(protowire.AppendTag(f.own, number, protowire.BytesType), s)
	}
}

// begin begins a message of size bytes.
func (f *frame) begin(number protowire.Number, size int) {
	f.own = protowire.AppendVarint(protowire.AppendTag(f.own, number, protowire.BytesType), uint64(size))
}

// body adds the fields of the resource's Any.
func (f *frame) body(r Resource) {
	f.text(anyTypeURL, r.Body.GetTypeUrl())
	value := r.Body.GetValue()
	if len(value) == 0 {
		return
	}
	f.begin(anyValue, len(value))
	if len(value) < shareFrom {
		f.own = append(f.own, value...)
		return
	}
	f.cut()
	f.data = append(f.data, mem.SliceBuffer(value))
}

// cut moves what was written to data.
func (f *frame) cut() {
	if len(f.own) > 0 {
		f.data = append(f.data, mem.SliceBuffer(f.own))
		f.own = f.own[len(f.own):]
	}
}
