package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// h2loadArgs is the command for HTTP/2 with prior knowledge.
func h2loadArgs(address string, connections, streams int, d time.Duration) []string {
	return []string{"-t1", "-c" + strconv.Itoa(connections), "-m" + strconv.Itoa(streams),
		"-D" + strconv.Itoa(int(d.Seconds())), "--connect-to=" + address, "http://" + originHost + "/"}
}

// h2load loads a target over HTTP/2. Any answer but 2xx, and any stream that fails, is an
// error.
func (s *session) h2load(ctx context.Context, t *target, connections, streams int, d time.Duration) (closed, error) {
	out, err := s.load(ctx, d, append([]string{s.tools["h2load"]}, h2loadArgs(t.address, connections, streams, d)...)...)
	if err != nil {
		return closed{}, err
	}
	return parseH2load(out)
}

var (
	h2loadFinished = regexp.MustCompile(`(?m)^finished in ([0-9.]+)(us|ms|s|m|h),`)
	h2loadRequests = regexp.MustCompile(`(?m)^requests: .* ([0-9]+) succeeded, ([0-9]+) failed, ([0-9]+) errored, ([0-9]+) timeout$`)
	h2loadCodes    = regexp.MustCompile(`(?m)^status codes: ([0-9]+) 2xx, ([0-9]+) 3xx, ([0-9]+) 4xx, ([0-9]+) 5xx$`)
)

// parseH2load reads the report of h2load.
func parseH2load(out string) (closed, error) {
	finished, requests, codes := h2loadFinished.FindStringSubmatch(out), h2loadRequests.FindStringSubmatch(out), h2loadCodes.FindStringSubmatch(out)
	if finished == nil || requests == nil || codes == nil {
		return closed{}, fmt.Errorf("h2load: no totals in %q", out)
	}
	for _, n := range append(requests[2:], codes[2:]...) {
		if n != "0" {
			return closed{}, fmt.Errorf("h2load: %s; %s", requests[0], codes[0])
		}
	}
	return newClosed("h2load", requests[1], finished[1]+finished[2])
}
