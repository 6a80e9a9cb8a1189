//go:build race

package http2

// raceDetector: sync.Pool drops items at random, so allocations cannot be counted.
const raceDetector = true
