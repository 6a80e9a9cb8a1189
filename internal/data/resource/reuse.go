package resource

import (
	"crypto/sha256"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A route configuration or a listener of a large registry has thousands of parts, of
// which a change touches one. So its parts are decoded one by one, and what has the
// same bytes as before is the same value as before.

// Field numbers of the parts.
const (
	virtualHostsField = 2 // of RouteConfiguration
	filterChainsField = 3 // of Listener
)

// decodedParts are parts by the sum of their bytes.
type decodedParts[V any] map[[sha256.Size]byte]V

// apart is a message without the parts in one repeated field, and these parts.
type apart struct {
	rest  *anypb.Any
	parts [][]byte
}

// takeApart splits a message. What is not the wire format of any message has no parts:
// whoever parses the rest finds the error.
func takeApart(a *anypb.Any, field protowire.Number) apart {
	whole := apart{rest: a}
	if a == nil {
		return whole
	}
	out := apart{rest: &anypb.Any{TypeUrl: a.GetTypeUrl()}}
	for b := a.GetValue(); len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return whole
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return whole
		}
		if number == field && kind == protowire.BytesType {
			part, _ := protowire.ConsumeBytes(b[n:])
			out.parts = append(out.parts, part)
		} else {
			out.rest.Value = append(out.rest.Value, b[:n+size]...)
		}
		b = b[n+size:]
	}
	return out
}

// each decodes the parts, but for those that are known. Parts with errors are left out:
// then all of the resource is refused.
func each[M proto.Message, V any](c *decoding, name string, parts [][]byte, known decodedParts[V], newMessage func() M, decode func(*path, M) V) ([]V, decodedParts[V]) {
	var root *path
	values, all := make([]V, 0, len(parts)), make(decodedParts[V], len(parts))
	for i, part := range parts {
		key := sha256.Sum256(part)
		v, ok := known[key]
		if !ok {
			at, m := root.at(name, i), newMessage()
			if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth - 1}).Unmarshal(part, m); err != nil {
				c.fail(at, "not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
				continue
			}
			if !c.check(at, m.ProtoReflect()) {
				continue
			}
			v = decode(at, m)
		}
		values, all[key] = append(values, v), v
	}
	return values, all
}

// whole puts the parts back into m, for the error to name what the bad ones are made from.
func (c *decoding) whole(a *anypb.Any, m proto.Message) proto.Message {
	if len(c.errs) > 0 {
		// What cannot be parsed is the error itself.
		_ = (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(a.GetValue(), m)
	}
	return m
}
