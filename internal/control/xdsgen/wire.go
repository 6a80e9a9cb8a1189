package xdsgen

import "google.golang.org/protobuf/encoding/protowire"

// Messages of which there is one for each service are written directly in their wire
// format, where making and encoding the Go messages would be most of the cost.

// Field numbers of google.protobuf.Struct. Metadata.filter_metadata is a map with number 1
// as Struct.fields is.
const (
	mapEntry, mapKey, mapValue                     = 1, 1, 2
	valueString, valueBool, valueStruct, valueList = 3, 4, 5, 6
	listValues                                     = 1
)

// begin begins a message in a field; end, with where it begins, ends it.
func begin(b []byte, field protowire.Number) (_ []byte, at int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return b, len(b)
}

// end puts the length before the message.
func end(b []byte, at int) []byte {
	n := len(b) - at
	width := protowire.SizeVarint(uint64(n))
	b = append(b, "0123456789"[:width]...)
	copy(b[at+width:], b[at:at+n])
	protowire.AppendVarint(b[at:at], uint64(n))
	return b
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

// entry is an entry of a map that was begun: where it begins, and its value.
type entry struct{ at, value int }

func beginEntry(b []byte, key string) ([]byte, entry) {
	b, at := begin(b, mapEntry)
	b, value := begin(appendText(b, mapKey, key), mapValue)
	return b, entry{at, value}
}

func (e entry) end(b []byte) []byte { return end(end(b, e.value), e.at) }

func textEntry(b []byte, key, value string) []byte {
	b, e := beginEntry(b, key)
	return e.end(appendText(b, valueString, value))
}

func boolEntry(b []byte, key string, value bool) []byte {
	b, e := beginEntry(b, key)
	return e.end(appendNumber(b, valueBool, protowire.EncodeBool(value)))
}
