// Package http2 is an HTTP/2 connection (RFC 9113, RFC 7541, extended CONNECT of RFC
// 8441) for a proxy, in the server's role and in the client's. Heads are those of
// package http1, judged as strictly, so that what serves a request need not know the
// version; trailers, interim responses and reset codes are kept.
//
// Frames are read by golang.org/x/net/http2's Framer and header blocks by its hpack
// decoder. Streams, flow control, limits and the schedule of writes are this package's:
// a proxy wants trailers, codes and bounds that a general server and client hide, and
// many streams in one system call.
//
// One goroutine reads a connection. Whoever has something to send appends frames to the
// connection's output, and a goroutine that lives only while there is output writes all
// of it at once. So no stream waits in a system call, and every wait of a stream can be
// interrupted (Stream.SetDeadline).
//
// Everything that a peer can make a connection keep or do is bounded: header bytes and
// fields, frames per header block, streams and handlers, received bytes (the windows),
// output, answers that the peer does not read, and frames that move nothing (guard).
//
// It must not dial, route, log or record, and it must not use net/http. Of this module
// it imports data/http1 only.
package http2
