package standalone

import (
	"context"
	"time"
)

// settleTime is how long no configuration must come for it to have settled.
const settleTime = 2 * time.Second

// tellSettled calls tell each time when the sidecar's configuration has settled.
func (r *running) tellSettled(ctx context.Context, tell func()) {
	changed, unsubscribe := r.sidecar.Store().Subscribe()
	defer unsubscribe()
	afterQuiet(ctx, changed, settleTime, tell)
}

// afterQuiet calls do when there were events and then none for a while, until ctx ends.
func afterQuiet(ctx context.Context, events <-chan struct{}, quiet time.Duration, do func()) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			timer.Reset(quiet)
		case <-timer.C:
			do()
		}
	}
}
