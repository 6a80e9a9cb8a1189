package http

import (
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
)

// client is the client's side of an exchange: how a request comes in and its response
// goes out. The exchange decides what is said, the client how it is written.
type client interface {
	// readRequest reads the request's head into x.req and gets its body ready.
	readRequest(x *exchange) error
	// interim sends the interim response in x.resp (RFC 9110 section 15.2).
	interim(x *exchange) error
	// begin makes the head of the final response in x.resp and returns where the body
	// goes. The head need not be sent before the first flush.
	begin(x *exchange) sink
	// tunnel is begin for a response that opens a tunnel, and returns both directions.
	tunnel(x *exchange) (body, sink)
	// gone reports whether the client is known to have left.
	gone() bool
	// reset reports whether the client reset the stream, and did not leave altogether.
	reset() bool
	// breakOff ends a response that cannot be completed in a way that the client
	// cannot take for its end.
	breakOff(x *exchange)
}

// server is the upstream's side of one attempt.
type server interface {
	interruptible
	// localAddr is %UPSTREAM_LOCAL_ADDRESS%, and protocol %UPSTREAM_PROTOCOL%.
	localAddr() netip.AddrPort
	protocol() record.Protocol
	// session is the upstream's TLS session; nil: plain text.
	session() *credentials.Session
	// ask sends a request whose body is x.small or nothing, and may wait until
	// something of the answer is there.
	ask(x *exchange) failure
	// begin makes the head of a request whose body follows, and returns where that goes.
	begin(x *exchange) (sink, failure)
	// readResponse reads the next response head into x.resp; that of the last call is
	// no longer valid. After a final one x.respBody is ready.
	readResponse(x *exchange) error
	// tunnel returns both directions after a response that opened a tunnel.
	tunnel(x *exchange) (body, sink)
	// abandon ends the attempt at once, also for whoever is writing to it. What was
	// read stays valid until release.
	abandon()
	// release gives back what the attempt held. When usable is false, or the
	// conversation did not end in order, nothing is used again.
	release(x *exchange, usable bool)
}

// body is the payload of one message, read piece by piece. http1.Body says what the
// methods do.
type body interface {
	Next() ([]byte, error)
	Done() bool
	Ready() bool
	Left() int64
	trailers() *http1.Fields
}

// sink is where the body of one message goes, behind a head that may still wait.
type sink interface {
	// add sends a piece, or keeps it until the next flush. last: nothing follows.
	add(piece []byte, last bool) error
	flush() error
	// end ends the message; trailers may be nil.
	end(trailers *http1.Fields) error
}
