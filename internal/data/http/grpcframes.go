package http

import "encoding/binary"

// frames counts the messages of a gRPC body as it passes: each has a prefix of a flag
// and its length in four bytes (gRPC over HTTP2, Length-Prefixed-Message). It keeps
// nothing of the messages, and a message counts when its prefix is whole.
type frames struct {
	prefix   [5]byte
	have     int    // bytes of the prefix
	left     uint32 // bytes of the message that are still to come
	messages uint64
}

func (f *frames) add(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(uint32(len(p)), f.left)
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.prefix[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have == len(f.prefix) {
			f.have, f.left = 0, binary.BigEndian.Uint32(f.prefix[1:])
			f.messages++
		}
	}
}
