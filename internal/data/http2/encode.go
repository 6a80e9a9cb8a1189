package http2

import (
	"hash/maphash"
	"strings"
)

// encoder writes header blocks (RFC 7541). It is our own because field values alias read
// buffers, so a string may only be kept where it is copied; and because what goes into
// the dynamic table is the writer's choice: here only what came before, so that values
// which are new each time never enter it. Strings are not Huffman coded: that costs both
// sides more than the bytes that it saves.
type encoder struct {
	seed    maphash.Seed
	entries []entry // oldest first
	size    uint32
	max     uint32 // of the table, as both sides know it
	// update: the peer changed the size; the next block says so (RFC 7541 section 4.2).
	update bool
	// seen are hashes of fields that came lately and are not in the table.
	seen [32]uint64
	next uint8
}

type entry struct {
	hash        uint64
	name, value string
}

func newEncoder() *encoder { return &encoder{seed: maphash.MakeSeed(), max: encoderTable} }

// setMax follows the peer's SETTINGS_HEADER_TABLE_SIZE. Of several before a block the
// smallest stays, for then one update is enough: some decoders refuse two.
func (e *encoder) setMax(n uint32) {
	n = min(n, encoderTable)
	if e.update {
		n = min(n, e.max)
	}
	if n == e.max {
		return
	}
	e.max, e.update = n, true
	e.evict(n)
}

func (e *encoder) evict(max uint32) {
	k := 0
	for e.size > max {
		e.size -= entrySize(e.entries[k].name, e.entries[k].value)
		k++
	}
	if k > 0 {
		n := copy(e.entries, e.entries[k:])
		clear(e.entries[n:])
		e.entries = e.entries[:n]
	}
}

func entrySize(name, value string) uint32 { return uint32(len(name)+len(value)) + 32 }

// begin starts a block.
func (e *encoder) begin(dst []byte) []byte {
	if !e.update {
		return dst
	}
	e.update = false
	return appendInt(dst, 0x20, 5, uint64(e.max))
}

// field appends one field. The strings are not kept. never makes it a literal that no
// one may index (RFC 7541 section 7.1.3).
func (e *encoder) field(dst []byte, name, value string, never bool) []byte {
	if never {
		return appendLiteral(dst, 0x10, 4, name, value)
	}
	h := maphash.String(e.seed, name) ^ maphash.String(e.seed, value)*31
	for i := len(e.entries) - 1; i >= 0; i-- {
		if x := &e.entries[i]; x.hash == h && x.value == value && x.name == name {
			return appendInt(dst, 0x80, 7, uint64(staticEntries+len(e.entries)-i))
		}
	}
	if !e.again(h) || entrySize(name, value) > e.max/2 {
		return appendLiteral(dst, 0, 4, name, value)
	}
	dst = appendLiteral(dst, 0x40, 6, name, value)
	e.insert(h, name, value)
	return dst
}

// again reports whether the hash was there lately, and notes it.
func (e *encoder) again(h uint64) bool {
	for _, s := range e.seen {
		if s == h {
			return true
		}
	}
	e.seen[e.next%uint8(len(e.seen))] = h
	e.next++
	return false
}

func (e *encoder) insert(h uint64, name, value string) {
	e.evict(e.max - entrySize(name, value))
	e.entries = append(e.entries, entry{h, strings.Clone(name), strings.Clone(value)})
	e.size += entrySize(name, value)
}

// indexed appends a field of the static table by its number.
func appendIndexed(dst []byte, i uint64) []byte { return appendInt(dst, 0x80, 7, i) }

func appendLiteral(dst []byte, kind byte, bits uint, name, value string) []byte {
	static := staticNames[name]
	dst = appendInt(dst, kind, bits, uint64(static))
	if static == 0 {
		dst = appendString(dst, name)
	}
	return appendString(dst, value)
}

func appendString(dst []byte, s string) []byte {
	return append(appendInt(dst, 0, 7, uint64(len(s))), s...)
}

// appendInt appends an integer with a prefix of so many bits (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, bits uint, n uint64) []byte {
	limit := uint64(1)<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// staticEntries is the size of the static table (RFC 7541 appendix A).
const staticEntries = 61

// staticNames has the first index of each name there.
var staticNames = func() map[string]uint8 {
	names := strings.Fields(`:authority :method :method :path :path :scheme :scheme
		:status :status :status :status :status :status :status accept-charset accept-encoding
		accept-language accept-ranges accept access-control-allow-origin age allow authorization
		cache-control content-disposition content-encoding content-language content-length
		content-location content-range content-type cookie date etag expect expires from host
		if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link
		location max-forwards proxy-authenticate proxy-authorization range referer refresh
		retry-after server set-cookie strict-transport-security transfer-encoding user-agent
		vary via www-authenticate`)
	m := make(map[string]uint8, len(names))
	for i, name := range names {
		if _, ok := m[name]; !ok {
			m[name] = uint8(i + 1)
		}
	}
	return m
}()
