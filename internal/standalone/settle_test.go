package standalone

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSettlesOnceAfterTheLastEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		events, told := make(chan struct{}), make(chan time.Duration, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			afterQuiet(ctx, events, 2*time.Second, func() { told <- time.Since(begun) })
		}()
		for range 3 {
			<-time.After(time.Second)
			events <- struct{}{}
		}
		if at := <-told; at != 5*time.Second {
			t.Errorf("told after %v, want two seconds after the last event", at)
		}
		<-time.After(time.Minute)
		if len(told) != 0 {
			t.Error("told again without another event")
		}
		events <- struct{}{}
		if at := <-told; at != 67*time.Second {
			t.Errorf("told after %v, want two seconds after the event", at)
		}
		cancel()
		<-done
	})
}
