package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
)

// The test binary is also the commands that run in the sandbox ("probe") and the
// program that starts one ("host"), for tests about its end and its terminal.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "probe":
			unix.Exit(probe(os.Args[2:])) // os.Exit waits for a second with the race detector
		case "host":
			unix.Exit(host(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// probing is the spec of a sandbox that runs a probe.
func probing(t testing.TB, args ...string) Spec {
	t.Helper()
	return Spec{
		Path: self(t), Args: append([]string{"probe", "probe"}, args...),
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
	}
}

type result struct {
	status  ExitStatus
	output  string
	packets []PacketDenied
	tcp     []string // original destinations
}

// run runs a sandbox to its end. Captured connections are answered with where they
// were going, captured DNS packets with "dns".
func run(t testing.TB, spec Spec) result {
	t.Helper()
	r, err := tryRun(t, spec)
	if err != nil {
		t.Fatalf("%s\n%s", Diagnose(err), r.output)
	}
	return r
}

func tryRun(t testing.TB, spec Spec) (r result, err error) {
	t.Helper()
	if spec.Logger == nil {
		spec.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if spec.Stdout == nil {
		spec.Stdout, spec.Stderr = in, in
	}
	var output bytes.Buffer
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(&output, out) })
	defer func() {
		_ = in.Close()
		reader.Wait()
		_ = out.Close()
		r.output = output.String()
	}()
	s, err := Start(ctx, spec)
	if err != nil {
		skipWithoutNamespaces(t, err)
		return r, err
	}
	var destinations []string
	var mu sync.Mutex
	answer(s, func(destination string) {
		mu.Lock()
		defer mu.Unlock()
		destinations = append(destinations, destination)
	})
	defer func() {
		_ = s.Close()
		for p := range s.Packets() {
			r.packets = append(r.packets, p)
		}
		mu.Lock()
		r.tcp = destinations
		mu.Unlock()
	}()
	if err := s.Go(); err != nil {
		skipWithoutNamespaces(t, err)
		return r, err
	}
	r.status, err = s.Wait()
	return r, err
}

// skipWithoutNamespaces skips on machines that do not let sandboxes be made.
func skipWithoutNamespaces(t testing.TB, err error) {
	t.Helper()
	var start *StartError
	if errors.As(err, &start) && start.advice(machineCondition()) != "" {
		t.Skip(Diagnose(err))
	}
}

// answer serves a sandbox's sockets until they are closed.
func answer(s *Sandbox, seen func(string)) {
	for _, l := range append(s.TCP(), s.DNSStreams()...) {
		s.workers.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				destination, err := intercept.OriginalDestination(c)
				text := destination.String()
				if err != nil {
					text = err.Error()
				}
				seen(text)
				_, _ = fmt.Fprintf(c, "%s at %s", text, c.LocalAddr())
				_ = c.Close()
			}
		})
	}
	for _, p := range s.DNSPackets() {
		s.workers.Go(func() {
			buf := make([]byte, 512)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = p.WriteTo(append([]byte("dns "), buf[:n]...), from)
			}
		})
	}
}

// lines gives what a probe printed, as name -> value of its "name: value" lines.
func lines(t testing.TB, r result) map[string]string {
	t.Helper()
	m := map[string]string{}
	for line := range strings.Lines(r.output) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("a probe printed %q; all of it:\n%s", line, r.output)
		}
		m[name] = value
	}
	return m
}

// check compares what a probe printed with what was expected: for each name one of
// the values (separated by "|").
func check(t testing.TB, r result, want map[string]string) {
	t.Helper()
	got := lines(t, r)
	for name, allowed := range want {
		ok := false
		for _, v := range strings.Split(allowed, "|") {
			ok = ok || got[name] == v
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got[name], allowed)
		}
	}
	if t.Failed() {
		t.Logf("the probe printed:\n%s", r.output)
	}
}

// loopbackServer is a service of the machine on its loopback interface.
func loopbackServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
