package record

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
)

// connectionID is CONNECTION_ID: the proxy's count of connections.
func connectionID(_ *Recorder, e *Entry) value {
	if e.ConnectionID == 0 {
		return value{}
	}
	return foreign(strconv.FormatUint(e.ConnectionID, 10))
}

// streamID is STREAM_ID: a request's x-request-id. A TCP connection has one made of a
// random part of this process and its CONNECTION_ID, so that all logs show the same.
func streamID(r *Recorder, e *Entry) value {
	if e.Protocol != ProtocolTCP {
		return foreign(get(e.RequestHeaders, "x-request-id"))
	}
	if e.ConnectionID == 0 {
		return value{}
	}
	b := r.identity
	for i := range 8 {
		b[8+i] ^= byte(e.ConnectionID >> (8 * (7 - i)))
	}
	return word(uuid(b))
}

// newUUID is a random UUID, version 4 (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return uuid(b)
}

// uuid prints b as a UUID of version 4.
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
