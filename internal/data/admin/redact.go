package admin

import (
	"github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// redacted stands for what is secret, as in Envoy.
const redacted = "[redacted]"

// redact takes the secrets out of a message and out of the Anys in it: fields that are
// marked udpa.annotations.sensitive, as private keys and passwords are. It reports whether
// there were any.
func redact(m protoreflect.Message) (changed bool, err error) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		return redactAny(a)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		var one bool
		if secret(f) {
			one = true
			blacken(m, f, v)
		} else {
			one, err = redactBelow(f, v)
		}
		changed = changed || one
		return err == nil
	})
	return changed, err
}

func redactAny(a *anypb.Any) (bool, error) {
	inner, err := a.UnmarshalNew()
	if err != nil {
		// Of a type that is not known only the type is written, or it cannot be read.
		a.Value = nil
		return true, nil
	}
	changed, err := redact(inner.ProtoReflect())
	if err != nil || !changed {
		return false, err
	}
	a.Value, err = proto.Marshal(inner)
	return true, err
}

func redactBelow(f protoreflect.FieldDescriptor, v protoreflect.Value) (changed bool, err error) {
	one := func(v protoreflect.Value) bool {
		var now bool
		now, err = redact(v.Message())
		changed = changed || now
		return err == nil
	}
	switch {
	case f.IsMap():
		if f.MapValue().Message() != nil {
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { return one(v) })
		}
	case f.Message() == nil:
	case f.IsList():
		for i, l := 0, v.List(); i < l.Len() && one(l.Get(i)); i++ {
		}
	default:
		one(v)
	}
	return changed, err
}

func secret(f protoreflect.FieldDescriptor) bool {
	marked, ok := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return ok && marked
}

// blacken replaces all texts and bytes in a field; numbers and what is kept in lists and
// maps of them goes.
func blacken(m protoreflect.Message, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.Message() != nil && f.IsList():
		for i, l := 0, v.List(); i < l.Len(); i++ {
			blackenAll(l.Get(i).Message())
		}
	case f.Message() != nil && !f.IsMap():
		blackenAll(v.Message())
	case f.IsList(), f.IsMap():
		m.Clear(f)
	case f.Kind() == protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString(redacted))
	case f.Kind() == protoreflect.BytesKind:
		m.Set(f, protoreflect.ValueOfBytes([]byte(redacted)))
	default:
		m.Clear(f)
	}
}

func blackenAll(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		a.Value = nil
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		blacken(m, f, v)
		return true
	})
}
