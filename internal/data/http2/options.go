package http2

import (
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// Defaults and bounds.
const (
	defaultStreams      = 250
	defaultStreamWindow = 256 << 10
	defaultServerWindow = 4 << 20
	defaultClientWindow = 16 << 20
	defaultFrameSize    = 16 << 10 // the least that RFC 9113 section 4.2 allows
	defaultWriteTimeout = time.Minute
	defaultHeadTimeout  = time.Minute
	defaultPingTimeout  = 10 * time.Second

	initialWindow = 65535 // RFC 9113 section 6.9.2
	maxWindow     = 1<<31 - 1
	maxFrameSize  = 1<<24 - 1
	maxStreamID   = 1<<31 - 1

	// outputBound is how many bytes of output a connection keeps before streams wait. As
	// many more may be on their way in one write, and one head may come on top.
	outputBound = 56 << 10
	// maxControls bounds the answers (SETTINGS and PING acknowledgements, RST_STREAM)
	// that wait for a peer which does not read; Envoy's max_outbound_control_frames.
	maxControls = 1000
	// maxContinuations bounds the CONTINUATION frames of one header block.
	maxContinuations = 32
	// maxHeads bounds the interim responses that wait to be read.
	maxHeads = 8
	// premature is how old a stream is whose reset counts as work for nothing; Envoy's
	// premature_reset_min_stream_lifetime_seconds.
	premature = time.Second
	// encoderTable bounds the dynamic table of what we send (RFC 7541 section 4.2).
	encoderTable = 4096
)

// Options of a connection. A zero field means the default.
type Options struct {
	// Limits of heads. Limits.HeaderBytes counts as RFC 7541 section 4.1 does: 32 bytes
	// per field on top of name and value; it is announced as
	// SETTINGS_MAX_HEADER_LIST_SIZE.
	Limits http1.Limits
	// Pool lends buffers, Workers goroutines for handlers. Share both between all
	// connections; nil: the connection has its own.
	Pool    *http1.Pool
	Workers *Workers
	// MaxConcurrentStreams bounds the streams open at a time: those that the client may
	// open in a server, and beside the peer's own setting those of Open in a client.
	// Default 250.
	MaxConcurrentStreams uint32
	// StreamWindow and ConnWindow are how many bytes of body a peer may send that nobody
	// has read yet, in one stream and in all of a connection. Default 256 KiB, and 4 MiB
	// in a server, 16 MiB in a client, whose streams may be of many who read at different
	// speeds; at least 65,535, at most 2^31-1.
	StreamWindow, ConnWindow uint32
	// MaxFrameSize bounds what is received in one frame. Default 16 KiB, the least that
	// the RFC allows; at most 2^24-1.
	MaxFrameSize uint32
	// ExtendedConnect accepts extended CONNECT in a server (RFC 8441).
	ExtendedConnect bool
	// IdleTimeout ends a connection that has had no stream for so long, with a GOAWAY.
	// 0: none.
	IdleTimeout time.Duration
	// WriteTimeout ends a connection whose peer takes no bytes for so long. Default one
	// minute. It may come up to a quarter early.
	WriteTimeout time.Duration
	// HeadTimeout bounds how long a peer takes for its connection preface, and for a header
	// block that it has begun. Default one minute.
	HeadTimeout time.Duration
	// PingTimeout: when a stream of a client is given up and nothing was heard of the
	// server since it began, the server is asked by PING; without an answer in this time
	// the connection ends with ErrSilent. Default 10 seconds.
	PingTimeout time.Duration
	// Now is a clock that does not jump. Default the process's.
	Now func() time.Duration
}

func (o Options) withDefaults(client bool) Options {
	o.Limits = o.Limits.WithDefaults()
	if o.Pool == nil {
		o.Pool = &http1.Pool{}
	}
	if o.Workers == nil {
		o.Workers = &Workers{}
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = defaultStreams
	}
	o.StreamWindow = clamp(o.StreamWindow, defaultStreamWindow, initialWindow, maxWindow)
	window := uint32(defaultServerWindow)
	if client {
		window = defaultClientWindow
	}
	o.ConnWindow = clamp(o.ConnWindow, window, initialWindow, maxWindow)
	o.MaxFrameSize = clamp(o.MaxFrameSize, defaultFrameSize, defaultFrameSize, maxFrameSize)
	o.WriteTimeout = orDefault(o.WriteTimeout, defaultWriteTimeout)
	o.HeadTimeout = orDefault(o.HeadTimeout, defaultHeadTimeout)
	o.PingTimeout = orDefault(o.PingTimeout, defaultPingTimeout)
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
	return o
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func clamp(v, def, low, high uint32) uint32 {
	if v == 0 {
		return def
	}
	return min(max(v, low), high)
}
