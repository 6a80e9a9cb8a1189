// Package backoff says how long to wait before trying again. It is pure: it must not wait.
package backoff

import "time"

// Pause is how long to wait after so many failures in a row before this one: least, and
// twice as much after each, up to most. random is in [0, 1) and takes off up to half, so
// that many who failed together do not come back together.
func Pause(failures int, least, most time.Duration, random float64) time.Duration {
	d := least
	for range failures {
		if d >= most {
			break
		}
		d *= 2
	}
	d = min(d, most)
	return d - time.Duration(random*float64(d)/2)
}
