package http2

import (
	"sync"

	"github.com/egret-mesh/egret/internal/data/workers"
)

// maxIdleWorkers bounds the goroutines that wait for work.
const maxIdleWorkers = 512

// Workers runs handlers on goroutines that it keeps, so that their stacks, which have
// grown, are used again; and it keeps streams for their storage. The zero value is ready
// to use; share it. Close it at the end.
type Workers struct {
	streams sync.Pool
	serving workers.Pool[*Stream]
}

// run calls s.serve on a goroutine.
func (w *Workers) run(s *Stream) { w.serving.Run(maxIdleWorkers, s, (*Stream).serve) }

// Close ends the goroutines that wait; those that work end after it. Handlers may still
// be run.
func (w *Workers) Close() { w.serving.Close() }
