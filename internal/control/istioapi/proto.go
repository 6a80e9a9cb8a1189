package istioapi

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// message fills m from a YAML mapping, strictly: as the proto3 JSON mapping says
// (https://protobuf.dev/programming-guides/json/), with the types as Istio's CRD
// schemas have them (a number in quotes is not a number), and with durations in
// Go's notation ("1m30s") as Istio reads them.
func (d *decoder) message(m protoreflect.Message, n *yaml.Node, path string, depth int) {
	n = deref(n)
	if d.wellKnown(m, n, path, depth) {
		return
	}
	fields, _ := d.fields(n, path, depth)
	written := make(map[protoreflect.Name]string, len(fields))
	all := m.Descriptor().Fields()
	for _, f := range fields {
		fd := all.ByJSONName(f.name)
		if fd == nil {
			fd = all.ByName(protoreflect.Name(f.name))
		}
		if fd == nil {
			d.unknownField(all, f, path)
			continue
		}
		at := join(path, fd.JSONName())
		d.mark(at, f.key)
		if isNull(f.value) {
			continue
		}
		if first, dup := written[fd.Name()]; dup {
			d.fail(CodeDuplicateKey, at, f.key, "is written twice: as %q and as %q", first, f.name)
			continue
		}
		written[fd.Name()] = f.name
		if oneof := fd.ContainingOneof(); oneof != nil && m.WhichOneof(oneof) != nil {
			d.fail(CodeConflict, at, f.key, "cannot be set together with %q: only one of them can", m.WhichOneof(oneof).JSONName())
			continue
		}
		d.setField(m, fd, f.value, at, depth+1)
	}
}

func (d *decoder) unknownField(all protoreflect.FieldDescriptors, f field, path string) {
	names := make([]string, all.Len())
	for i := range names {
		names[i] = all.Get(i).JSONName()
	}
	d.report(d.unknown, CodeUnknownField, join(path, f.name), d.line(f.key), "no such field%s", Suggest(f.name, names))
}

func (d *decoder) setField(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) {
	switch {
	case fd.IsMap():
		d.setMap(m, fd, n, path, depth)
	case fd.IsList():
		d.setList(m, fd, n, path, depth)
	case fd.Message() != nil:
		sub := m.NewField(fd)
		d.message(sub.Message(), n, path, depth)
		m.Set(fd, sub)
	default:
		if v, ok := d.scalar(fd, n, path); ok {
			m.Set(fd, v)
		}
	}
}

func (d *decoder) setList(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.fail(CodeWrongType, path, n, "must be a list (lines that begin with \"- \"), not %s", describe(n))
		return
	}
	if !d.visit(n, path, depth) {
		return
	}
	list := m.Mutable(fd).List()
	for i, item := range n.Content {
		if d.exhausted {
			return
		}
		item = deref(item)
		at := index(path, i)
		d.mark(at, item)
		switch {
		case isNull(item):
			d.fail(CodeWrongType, at, item, "is empty: a list entry must have a value")
		case fd.Message() != nil:
			d.message(list.AppendMutable().Message(), item, at, depth+1)
		default:
			if v, ok := d.scalar(fd, item, at); ok {
				list.Append(v)
			}
		}
	}
}

func (d *decoder) setMap(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) {
	fields, ok := d.fields(n, path, depth)
	if !ok {
		return
	}
	values := m.Mutable(fd).Map()
	for _, f := range fields {
		at := join(path, f.name)
		d.mark(at, f.key)
		key, ok := d.mapKey(fd.MapKey(), f.key, f.name, at)
		switch {
		case !ok:
		case isNull(f.value):
			d.fail(CodeWrongType, at, f.key, "is empty: it must have a value")
		case fd.MapValue().Message() != nil:
			v := values.NewValue()
			d.message(v.Message(), f.value, at, depth+1)
			values.Set(key, v)
		default:
			if v, ok := d.scalar(fd.MapValue(), f.value, at); ok {
				values.Set(key, v)
			}
		}
	}
}

// mapKey converts a key: a string, or a number that stands as one (proto JSON).
func (d *decoder) mapKey(fd protoreflect.FieldDescriptor, n *yaml.Node, text, path string) (protoreflect.MapKey, bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text).MapKey(), true
	case protoreflect.Uint32Kind:
		if v, err := strconv.ParseUint(text, 10, 32); err == nil && strconv.FormatUint(v, 10) == text {
			return protoreflect.ValueOfUint32(uint32(v)).MapKey(), true
		}
		d.fail(CodeWrongType, path, n, "%q is not a whole number, as the keys here are", text)
	default:
		d.fail(CodeNotSupported, path, n, "keys of this type are not supported")
	}
	return protoreflect.MapKey{}, false
}

// scalar converts one value; false after telling that it has the wrong type.
func (d *decoder) scalar(fd protoreflect.FieldDescriptor, n *yaml.Node, path string) (protoreflect.Value, bool) {
	var none protoreflect.Value
	d.budget--
	if n.Kind != yaml.ScalarNode {
		d.fail(CodeWrongType, path, n, "must be %s, not %s", wanted(fd), describe(n))
		return none, false
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return d.stringValue(n, path)
	case protoreflect.BytesKind:
		if b, err := base64.StdEncoding.DecodeString(n.Value); err == nil {
			return protoreflect.ValueOfBytes(b), true
		}
	case protoreflect.BoolKind:
		if v, ok := boolean(n); ok {
			return protoreflect.ValueOfBool(v), true
		}
	case protoreflect.EnumKind:
		return d.enum(fd, n, path)
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		var v float64
		if (n.Tag == "!!int" || n.Tag == "!!float") && n.Decode(&v) == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
			if fd.Kind() == protoreflect.FloatKind {
				return protoreflect.ValueOfFloat32(float32(v)), true
			}
			return protoreflect.ValueOfFloat64(v), true
		}
	default:
		if v, ok := integer(fd.Kind(), n); ok {
			return v, true
		}
		if n.Tag == "!!int" {
			d.fail(CodeWrongType, path, n, "the number %s is out of range", n.Value)
			return none, false
		}
	}
	hint := ""
	if n.Tag == "!!str" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		hint = " (remove the quotes)"
	}
	d.fail(CodeWrongType, path, n, "must be %s, not %s%s", wanted(fd), describe(n), hint)
	return none, false
}

func (d *decoder) stringValue(n *yaml.Node, path string) (protoreflect.Value, bool) {
	switch n.Tag {
	case "!!str", "!!timestamp":
		return protoreflect.ValueOfString(strings.ToValidUTF8(n.Value, "\uFFFD")), true
	}
	d.fail(CodeWrongType, path, n, "must be a string, not %s (put it in quotes: %q)", describe(n), n.Value)
	return protoreflect.Value{}, false
}

func (d *decoder) enum(fd protoreflect.FieldDescriptor, n *yaml.Node, path string) (protoreflect.Value, bool) {
	values := fd.Enum().Values()
	if n.Tag == "!!int" {
		if i, err := strconv.ParseInt(n.Value, 10, 32); err == nil && values.ByNumber(protoreflect.EnumNumber(i)) != nil {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(i)), true
		}
	}
	if v := values.ByName(protoreflect.Name(n.Value)); v != nil {
		return protoreflect.ValueOfEnum(v.Number()), true
	}
	names := make([]string, values.Len())
	for i := range names {
		names[i] = string(values.Get(i).Name())
	}
	d.fail(CodeInvalid, path, n, "%q is not one of %s%s", n.Value, strings.Join(names, ", "), Suggest(n.Value, names))
	return protoreflect.Value{}, false
}

// boolean takes YAML 1.2's words and, unquoted, YAML 1.1's, as kubectl does.
func boolean(n *yaml.Node) (value, ok bool) {
	if n.Tag != "!!bool" && (n.Tag != "!!str" || n.Style != 0) {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

// integer converts to the kind; 64-bit kinds may be written as strings.
func integer(kind protoreflect.Kind, n *yaml.Node) (protoreflect.Value, bool) {
	var none protoreflect.Value
	var signed int64
	var unsigned uint64
	wide := kind == protoreflect.Int64Kind || kind == protoreflect.Uint64Kind
	if n.Tag != "!!int" && (!wide || n.Tag != "!!str") {
		return none, false
	}
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if n.Decode(&signed) != nil || signed != int64(int32(signed)) {
			return none, false
		}
		return protoreflect.ValueOfInt32(int32(signed)), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if n.Decode(&unsigned) != nil || unsigned > math.MaxUint32 {
			return none, false
		}
		return protoreflect.ValueOfUint32(uint32(unsigned)), true
	case protoreflect.Int64Kind:
		v, err := strconv.ParseInt(n.Value, 10, 64)
		return protoreflect.ValueOfInt64(v), err == nil
	case protoreflect.Uint64Kind:
		v, err := strconv.ParseUint(n.Value, 10, 64)
		return protoreflect.ValueOfUint64(v), err == nil
	}
	return none, false
}

func wanted(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "a base64 string"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return "one word"
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "a number"
	}
	return "a whole number"
}

// wellKnown fills google.protobuf messages that have a JSON form of their own.
func (d *decoder) wellKnown(m protoreflect.Message, n *yaml.Node, path string, depth int) bool {
	name := m.Descriptor().FullName()
	if name.Parent() != "google.protobuf" {
		return false
	}
	switch name.Name() {
	case "Duration":
		if v, ok := d.duration(n, path); ok {
			proto.Merge(m.Interface(), durationpb.New(v))
		}
	case "BoolValue", "StringValue", "BytesValue", "DoubleValue", "FloatValue",
		"Int32Value", "Int64Value", "UInt32Value", "UInt64Value":
		fd := m.Descriptor().Fields().ByName("value")
		if v, ok := d.scalar(fd, n, path); ok {
			m.Set(fd, v)
		}
	case "Struct":
		if v, ok := d.plain(n, path, depth); ok {
			if object, ok := v.(map[string]any); ok {
				if s, err := structpb.NewStruct(object); err == nil {
					proto.Merge(m.Interface(), s)
					return true
				}
			}
			d.fail(CodeWrongType, path, n, "must be a mapping (name: value), not %s", describe(n))
		}
	default:
		d.fail(CodeNotSupported, path, n, "a value of type %s is not supported", name)
	}
	return true
}

func (d *decoder) duration(n *yaml.Node, path string) (time.Duration, bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		if v, err := time.ParseDuration(n.Value); err == nil {
			return v, true
		}
	}
	d.fail(CodeWrongType, path, n, `must be a duration such as "5s" or "1m30s", not %s`, describe(n))
	return 0, false
}

// plain converts to the types of encoding/json.
func (d *decoder) plain(n *yaml.Node, path string, depth int) (any, bool) {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		fields, ok := d.fields(n, path, depth)
		out := make(map[string]any, len(fields))
		for _, f := range fields {
			at := join(path, f.name)
			d.mark(at, f.key)
			v, valid := d.plain(f.value, at, depth+1)
			ok = ok && valid
			out[f.name] = v
		}
		return out, ok
	case yaml.SequenceNode:
		ok := d.visit(n, path, depth)
		if !ok {
			return nil, false
		}
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			v, valid := d.plain(item, index(path, i), depth+1)
			ok = ok && valid
			out = append(out, v)
		}
		return out, ok
	}
	if !d.visit(n, path, depth) {
		return nil, false
	}
	switch n.Tag {
	case "!!null":
		return nil, true
	case "!!bool":
		return boolean(n)
	case "!!int", "!!float":
		var v float64
		return v, n.Decode(&v) == nil
	}
	return strings.ToValidUTF8(n.Value, "\uFFFD"), true
}
