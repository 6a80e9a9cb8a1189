package http

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
)

// upload is a request body on its way upstream, beside the wait for the response.
type upload struct {
	active   atomic.Bool // it was started; asked by the watch's timer too
	done     chan struct{}
	finished atomic.Bool
	last     atomic.Bool // the last bytes are being written
	err      error       // after done
	pump     pump
}

// running reports whether the body is still being read from the client.
func (u *upload) running() bool { return u.active.Load() && !u.finished.Load() }

func (u *upload) reset() {
	u.done, u.err, u.pump = nil, nil, pump{}
	u.active.Store(false)
	u.finished.Store(false)
	u.last.Store(false)
}

// startUpload sends the body from a goroutine of its own.
func (x *exchange) startUpload(to sink) {
	u := &x.upload
	u.done = make(chan struct{})
	u.active.Store(true)
	u.pump.start(x.reqBody, to, &x.moved, &x.h.pipes)
	if x.grpc {
		u.pump.frames = &x.requestFrames
	}
	u.pump.beforeLast = func() { u.last.Store(true) }
	go x.runUpload()
}

func (x *exchange) runUpload() {
	u := &x.upload
	defer close(u.done)
	u.err = u.pump.run()
	x.entry.BytesReceived, x.entry.RequestMessages = u.pump.total, x.requestFrames.messages
	x.entry.RequestDone = time.Since(x.start)
	x.entry.RequestSent = x.entry.RequestDone
	u.finished.Store(true)
	x.received.Store(true)
	if u.err == nil {
		if x.kept.whole() {
			x.sendCopies(x.kept.body)
		}
		x.h.mirrors.leftOut.Add(uint64(len(x.copies)))
		if t := x.timeouts.Response; t > 0 {
			x.limit.Store(int64(x.h.now() + t)) // from the end of the request, as in Envoy
			x.startWatching()
		}
		return
	}
	var w writeError
	if errors.As(u.err, &w) {
		return // the upstream does not want more; it may have answered already
	}
	x.watch.interrupt(causeUpload)
}

// stopUpload ends the upload and waits for it; the upstream's side was abandoned. The
// client's deadline is left in the past where the upload had to be interrupted.
func (x *exchange) stopUpload() {
	u := &x.upload
	if !u.active.Load() {
		return
	}
	if u.running() && !u.last.Load() {
		x.close = true
		x.watch.wakeClient()
	}
	<-u.done
}

// uploadFailure is the failure where the request body could not be read.
func (x *exchange) uploadFailure() *failure {
	<-x.upload.done
	x.close = true
	var e1 *http1.Error
	var e2 *http2.Error
	f := failure{kind: finalKind, reason: reason.BadRequest, flag: "DPE"}
	switch {
	case errors.As(x.upload.err, &e1):
		f.status, f.detail = e1.Status, e1.Error()
		return &f
	case errors.As(x.upload.err, &e2): // which has been reset, unless there is a status
		f.status, f.detail = e2.Status, e2.Error()
		return &f
	}
	f = x.goneFailure()
	return &f
}
