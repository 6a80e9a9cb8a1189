package backoff

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	for failures, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		most := want * time.Second
		if got := Pause(failures, time.Second, 10*time.Second, 0); got != most {
			t.Errorf("after %d failures: %s", failures, got)
		}
		if got := Pause(failures, time.Second, 10*time.Second, 0.999); got < most/2 || got > most*51/100 {
			t.Errorf("after %d failures: %s", failures, got)
		}
	}
}
