package xds

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
)

// When a control plane ends, the next one is asked; what both have is not sent again.
func TestNextControlPlane(t *testing.T) {
	snap := lab(t)
	first, second := NewServer(&generator{snap: snap}, ServerOptions{}), NewServer(&generator{snap: snap}, ServerOptions{})
	at, stop := listen(t, first, "", nil)
	other, _ := listen(t, second, "", nil)
	store := newStore()
	client := NewClient(dialTo(t, at, nil), quick(ClientOptions{Handler: store, Others: []grpc.ClientConnInterface{dialTo(t, other, nil)}}))
	follow(store, client)
	run(t, client)
	store.await(t, snap)
	store.lines()
	stop()
	eventually(t, nil, "the second one serves", func() bool { return len(second.Status()) == 1 && client.Status().Server == 1 })
	changed := snapshot(t, map[string][]string{ClusterType: {"c=1", "d=2"}, EndpointType: {"c=1", "d=1"}, ListenerType: {"l=1"}, RouteType: {"l=1"}, NameTableType: {"=1"}})
	second.generator.(*generator).set(changed, nil)
	second.Changed()
	store.await(t, changed)
	if diff := cmp.Diff([]string{"CDS +d"}, slices.DeleteFunc(store.lines(), func(l string) bool { return len(l) <= 4 })); diff != "" {
		t.Errorf("what was sent (-want +got):\n%s", diff)
	}
	// The first one is back: it is asked first when the stream ends.
	listen(t, first, at, nil)
	second.Close()
	eventually(t, nil, "the first one serves", func() bool { return len(first.Status()) == 1 && client.Status().Server == 0 })
}

// silent is a server that takes everything and says nothing.
type silent struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (silent) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	<-s.Context().Done()
	return nil
}

// broken listens, and hands each connection to f.
func broken(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// A server that cannot be used is left after a bounded time, told of once, and tried
// again; meanwhile another one serves.
func TestServersThatCannotBeUsed(t *testing.T) {
	mute := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(mute, silent{})
	muteAt, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = mute.Serve(muteAt)
	}()
	defer func() {
		mute.Stop()
		<-served
	}()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{
		"never answers": muteAt.Addr().String(),
		"nobody there":  nobody.Addr().String(),
		"garbage":       broken(t, func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("garbage", 1000))) }),
		"hangs up":      broken(t, func(net.Conn) {}),
	} {
		t.Run(name, func(t *testing.T) {
			snap := lab(t)
			good, stop := listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), "", nil)
			stop() // until the first was tried several times
			store, log := newStore(), &diary{}
			client := NewClient(dialTo(t, at, nil), quick(ClientOptions{
				Handler: store, Logger: log.logger(), AnswerTimeout: 50 * time.Millisecond,
				Others: []grpc.ClientConnInterface{dialTo(t, good, nil)},
			}))
			follow(store, client)
			run(t, client)
			eventually(t, nil, "it is tried again", func() bool { return client.Status().Streams > 20 })
			if n := log.count("xDS stream ended"); n == 0 || n > 6 { // gRPC has a few words for the same
				t.Errorf("%d lines for %d streams:\n%s", n, client.Status().Streams, log.text.String())
			}
			listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), good, nil)
			store.await(t, snap)
		})
	}
}

// A control plane that came back, takes connections and never says a word, is left for the
// next one, though the client has something.
func TestSilentAfterReconnection(t *testing.T) {
	snap := lab(t)
	at, stop := listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), "", nil)
	changed := snapshot(t, map[string][]string{ClusterType: {"c=2"}, EndpointType: {"c=1"}, ListenerType: {"l=1"}, RouteType: {"l=1"}, NameTableType: {"=1"}})
	other, _ := listen(t, NewServer(&generator{snap: changed}, ServerOptions{}), "", nil)
	store, log := newStore(), &diary{}
	client := NewClient(dialTo(t, at, nil), quick(ClientOptions{
		Handler: store, Logger: log.logger(), AnswerTimeout: 200 * time.Millisecond,
		Others: []grpc.ClientConnInterface{dialTo(t, other, nil)},
	}))
	follow(store, client)
	run(t, client)
	store.await(t, snap)
	stop()
	mute := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(mute, silent{})
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = mute.Serve(ln)
	}()
	defer func() {
		mute.Stop()
		<-served
	}()
	store.await(t, changed)
}

// brief takes everything, says nothing, and ends each stream after a while.
type brief struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	while time.Duration
}

func (b brief) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	end := time.NewTimer(b.while)
	defer end.Stop()
	select {
	case <-end.C:
	case <-s.Context().Done():
	}
	return nil
}

// A stream on which nothing came, because nothing changed, and which lasted is no failure:
// however many there were, the next one is not put off for longer.
func TestQuietStreamsAreNoFailures(t *testing.T) {
	const least, most = time.Millisecond, 64 * time.Millisecond
	snap := lab(t)
	at, stop := listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), "", nil)
	store, log := newStore(), &diary{}
	client := NewClient(dialTo(t, at, nil), ClientOptions{
		Node: node("n"), Delta: true, Handler: store, MinBackoff: least, MaxBackoff: most,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	follow(store, client)
	run(t, client)
	store.await(t, snap)
	stop()
	quiet := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(quiet, brief{while: 2 * most})
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = quiet.Serve(ln)
	}()
	defer func() {
		quiet.Stop()
		<-served
	}()
	eventually(t, nil, "several quiet streams have ended", func() bool { return log.count("error=EOF pause=") >= 8 })
	log.mu.Lock()
	defer log.mu.Unlock()
	for line := range strings.Lines(log.text.String()) {
		_, pause, _ := strings.Cut(strings.TrimSpace(line), "error=EOF pause=")
		if d, err := time.ParseDuration(pause); pause != "" && (err != nil || d > least) {
			t.Errorf("the pause after a stream that lasted: %q", line)
		}
	}
}

// Half of what the server says is nothing: what came before stays, and the rest comes
// when the connection holds.
func TestHalfAStream(t *testing.T) {
	snap := lab(t)
	at, _ := listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), "", nil)
	cut := 0
	relay := broken(t, func(c net.Conn) {
		up, err := net.Dial("tcp", at)
		if err != nil {
			return
		}
		go func() {
			defer up.Close()
			_, _ = up.(*net.TCPConn).ReadFrom(c)
		}()
		cut += 97 // each time a little more comes through
		buf := make([]byte, cut)
		for left := cut; left > 0; {
			n, err := up.Read(buf[:left])
			if err != nil {
				break
			}
			left -= n
			if _, err := c.Write(buf[:n]); err != nil {
				break
			}
		}
	})
	store := newStore()
	client := NewClient(dialTo(t, relay, nil), quick(ClientOptions{Handler: store}))
	follow(store, client)
	run(t, client)
	store.await(t, snap)
}

// Started while the control plane is away, the client begins with what it had; then it
// gets what changed meanwhile, and only that.
func TestStartsFromTheCopy(t *testing.T) {
	snap := lab(t)
	path := filepath.Join(t.TempDir(), "copy")
	gen := &generator{snap: snap}
	at, stop := listen(t, NewServer(gen, ServerOptions{}), "", nil)
	store := newStore()
	client := NewClient(dialTo(t, at, nil), quick(ClientOptions{Handler: store, Copy: path}))
	follow(store, client)
	end := run(t, client)
	store.await(t, snap)
	end()
	stop()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	later := newStore()
	again := NewClient(dialTo(t, at, nil), quick(ClientOptions{Handler: later, Copy: path}))
	follow(later, again)
	run(t, again)
	later.await(t, snap)
	later.lines()
	changed := snapshot(t, map[string][]string{ClusterType: {"c=2"}, EndpointType: {"c=1"}, ListenerType: {"l=1"}, RouteType: {"l=1"}, NameTableType: {"=1"}})
	gen.set(changed, nil)
	listen(t, NewServer(gen, ServerOptions{}), at, nil)
	eventually(t, later.changed, "what changed has come", func() bool {
		return later.has(Snapshot{ClusterType: changed[ClusterType], ListenerType: changed[ListenerType]})
	})
	for _, line := range later.lines() {
		if strings.Contains(line, "+") && line != "CDS +c -d" && line != "CDS +c" {
			t.Errorf("it was sent again: %s", line)
		}
	}
}

// What a client asks for by name comes back from the copy when it asks for it again, also
// after several starts without a control plane; what the copy does not have does not.
func TestNamesOfTheCopy(t *testing.T) {
	snap := Snapshot{ClusterType: table(t, ClusterType, "a=1", "b=1", "c=1")}
	path := filepath.Join(t.TempDir(), "copy")
	at, stop := listen(t, NewServer(&generator{snap: snap}, ServerOptions{}), "", nil)
	begin := func(names ...string) (*store, *Client, func()) {
		store := newStore()
		client := NewClient(dialTo(t, at, nil), quick(ClientOptions{Handler: store, Copy: path}))
		client.Subscribe(ClusterType, []string{})
		client.Ask(ClusterType, names, nil)
		return store, client, run(t, client)
	}
	has := func(words ...string) Snapshot { return Snapshot{ClusterType: table(t, ClusterType, words...)} }
	store, _, end := begin("a", "b")
	store.await(t, has("a=1", "b=1"))
	end()
	stop()
	for range 2 {
		store, client, end := begin("a")
		store.await(t, has("a=1"))
		client.Ask(ClusterType, []string{"c", "b"}, nil)
		store.await(t, has("a=1", "b=1"))
		end()
		store, _, end = begin("a") // b is in the copy, though nobody wants it this time
		store.await(t, has("a=1"))
		end()
	}
}

// A copy that is not whole, or another proxy's, is told of and not used.
func TestCopiesThatAreNotUsed(t *testing.T) {
	dir := t.TempDir()
	contents := []*discoveryv3.DeltaDiscoveryResponse{{TypeUrl: ClusterType, Resources: []*discoveryv3.Resource{
		{Name: "c", Version: "1", Resource: resource(t, ClusterType, "c", "1").Body},
	}}}
	write := func(name, node string, change func([]byte) []byte) string {
		path := filepath.Join(dir, name)
		if err := writeCopy(path, node, contents); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	same := func(b []byte) []byte { return b }
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "there is no copy"},
		{write("cut", "sidecar~1", func(b []byte) []byte { return b[:len(b)-1] }), "it is damaged"},
		{write("short", "sidecar~1", func(b []byte) []byte { return b[:20] }), "cut off"},
		{write("flipped", "sidecar~1", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), "it is damaged"},
		{write("empty", "sidecar~1", func([]byte) []byte { return nil }), "not a copy"},
		{write("foreign", "sidecar~2", same), `it is the one of \"sidecar~2\"`},
		{dir, "is not used"},
		{write("good", "sidecar~1", same), "starting with the copy"},
	} {
		store, log := newStore(), &diary{}
		client := NewClient(dialTo(t, "127.0.0.1:1", nil), quick(ClientOptions{Handler: store, Logger: log.logger(), Copy: c.path}))
		client.Subscribe(ClusterType, nil)
		stop := run(t, client)
		eventually(t, nil, c.want, func() bool { return log.count(c.want) == 1 })
		stop()
		if has := len(store.lines()) > 0; has != (filepath.Base(c.path) == "good") {
			t.Errorf("%s: applied %v", c.path, has)
		}
	}
}

// Where a copy cannot be written that is told once, and an older one does not stay.
func TestCopyThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone", "copy")
	gen := &generator{snap: lab(t)}
	s := NewServer(gen, ServerOptions{})
	at, _ := listen(t, s, "", nil)
	store, log := newStore(), &diary{}
	client := NewClient(dialTo(t, at, nil), quick(ClientOptions{Handler: store, Logger: log.logger(), Copy: path}))
	follow(store, client)
	stop := run(t, client)
	store.await(t, gen.snap)
	stop()
	if n := log.count("was not copied to disk"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.text.String())
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, maxCopy)
	body := resource(t, ClusterType, "c", "1").Body
	body.Value = big
	contents := []*discoveryv3.DeltaDiscoveryResponse{{TypeUrl: ClusterType, Resources: []*discoveryv3.Resource{{Name: "c", Resource: body}}}}
	if err := writeCopy(path, "n", nil); err != nil {
		t.Fatal(err)
	}
	if err := writeCopy(path, "n", contents); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func FuzzCopy(f *testing.F) {
	path := filepath.Join(f.TempDir(), "copy")
	if err := writeCopy(path, "n", []*discoveryv3.DeltaDiscoveryResponse{{TypeUrl: ClusterType}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(copyMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := parseCopy(data, "n"); err != nil && out != nil {
			t.Errorf("%v with an error: %v", out, err)
		}
	})
}
