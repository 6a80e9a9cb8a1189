package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// probeWord makes this program the command in the sandbox.
const probeWord = "probe"

// pause between requests of the probe.
const pause = 2 * time.Millisecond

// probe calls the edited host once and then does nothing until the word "traffic" comes
// on in. Then it calls the edited host, and tells each change: whether the request was
// allowed, and when it began, in nanoseconds of Unix time; and beside that the other host. The
// word "quiet" ends both.
func probe(in io.Reader, out io.Writer) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var slowest atomic.Int64
	var traffic context.CancelFunc = func() {}
	var flowing sync.WaitGroup
	var mu sync.Mutex // of out
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format, args...)
	}
	watch(ctx, say, true)
	for words := bufio.NewScanner(in); words.Scan(); {
		traffic()
		flowing.Wait()
		if words.Text() == "traffic" {
			var c context.Context
			c, traffic = context.WithCancel(ctx)
			flowing.Go(func() { watch(c, say, false) })
			flowing.Go(func() { flow(c, &slowest) })
		} else {
			say("slowest %v\n", time.Duration(slowest.Swap(0)).Round(time.Microsecond))
		}
	}
	traffic()
	cancel()
	flowing.Wait()
}

func watch(ctx context.Context, say func(string, ...any), once bool) {
	// Each request on a connection of its own: a name that was refused and is allowed
	// now has another address.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	last := "denied"
	if once {
		last = ""
	}
	look := func() {
		begun := time.Now()
		word := "denied"
		if call(ctx, client, editedHost) {
			word = "allowed"
		}
		if word != last {
			last = word
			say("%s %d\n", word, begun.UnixNano())
		}
	}
	if once {
		look()
	} else {
		every(ctx, look)
	}
}

// flow makes requests on one connection, and keeps how long the slowest took.
func flow(ctx context.Context, slowest *atomic.Int64) {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	every(ctx, func() {
		begun := time.Now()
		if call(ctx, client, steadyHost) {
			slowest.Store(max(slowest.Load(), int64(time.Since(begun))))
		} else if ctx.Err() == nil {
			slowest.Store(int64(time.Hour)) // it must always be allowed
		}
	})
}

func every(ctx context.Context, do func()) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// call says whether a GET was answered by the host.
func call(ctx context.Context, client *http.Client, host string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
