package admin

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Bounds on a mask.
const (
	maxMask      = 4 << 10 // bytes
	maxMaskPaths = 64
	maxMaskDepth = 16
)

// mask is a google.protobuf.FieldMask as a tree; an empty one keeps everything.
type mask map[string]mask

// parseMask reads "a.b,c".
func parseMask(text string) (mask, error) {
	if len(text) > maxMask {
		return nil, fmt.Errorf("the mask has %d bytes, at most %d are possible", len(text), maxMask)
	}
	paths := strings.Split(text, ",")
	if len(paths) > maxMaskPaths {
		return nil, fmt.Errorf("the mask has %d paths, at most %d are possible", len(paths), maxMaskPaths)
	}
	root := mask{}
	for _, path := range paths {
		names := strings.Split(path, ".")
		if len(names) > maxMaskDepth {
			return nil, fmt.Errorf("a path of the mask has %d names, at most %d are possible", len(names), maxMaskDepth)
		}
		root.add(names)
	}
	return root, nil
}

func (m mask) add(names []string) {
	for i, name := range names {
		below, known := m[name]
		switch {
		case known && len(below) == 0:
			return // all of it is kept already
		case i == len(names)-1:
			m[name] = mask{}
		case !known:
			below = mask{}
			m[name] = below
		}
		m = below
	}
}

// fits reports whether a path begins with a field of the message.
func (m mask) fits(d protoreflect.MessageDescriptor) bool {
	for name := range m {
		if d.Fields().ByName(protoreflect.Name(name)) != nil {
			return true
		}
	}
	return false
}

// trim keeps of a message what the mask has. It goes into messages, also inside of an
// Any, and not into lists, as in Envoy.
func (m mask) trim(to protoreflect.Message) error {
	if len(m) == 0 {
		return nil
	}
	if a, ok := to.Interface().(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			return nil // of a type that is not known: only the type can be shown anyway
		}
		if err := m.trim(inner.ProtoReflect()); err != nil {
			return err
		}
		a.Value, err = proto.Marshal(inner)
		return err
	}
	var err error
	to.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, keep := m[string(f.Name())]
		switch {
		case !keep:
			to.Clear(f)
		case len(below) > 0 && f.Message() != nil && !f.IsList() && !f.IsMap():
			err = below.trim(v.Message())
		}
		return err == nil
	})
	return err
}
