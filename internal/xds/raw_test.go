package xds

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type fixture struct {
	session
	conn *Pipe
}

func newFixture(t *testing.T, first Snapshot) *fixture {
	f := &fixture{session: session{gen: &generator{snap: first}}}
	return f.serve(t, NewServer(f.gen, ServerOptions{}))
}

func (f *fixture) serve(t *testing.T, s *Server) *fixture {
	f.server = s
	f.conn = pipe(t, f.server)
	return f
}

var refusal = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: "no, thanks"}

// A stream as Envoy holds it: clusters, endpoints by name, listeners, routes by name.
func TestSotwAsEnvoy(t *testing.T) {
	f := newFixture(t, world(t, "a=1", "b=1"))
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
	cds := r.get("CDS a b")
	r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: EndpointType, ResourceNames: []string{"a", "b"}})
	eds := r.get("EDS a b")
	r.ack(cds)
	r.ack(eds, "a", "b")
	r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: ListenerType})
	lds := r.get("LDS a b")
	r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: RouteType, ResourceNames: []string{"a"}})
	rds := r.get("RDS a")
	r.ack(lds)
	r.ack(rds, "a")
	// A further name: only that one comes.
	r.ack(rds, "a", "b")
	rds = r.get("RDS b")
	r.ack(rds, "a", "b")

	// Everything changes, b goes, c comes: in order, b's cluster last.
	f.change(world(t, "a=2", "c=1"))
	cds = r.get("CDS a b c")
	eds = r.get("EDS a")
	lds = r.get("LDS a c")
	rds = r.get("RDS a")
	last := r.get("CDS a c")
	if last.VersionInfo == cds.VersionInfo {
		t.Error("two different sets have one version")
	}
	// The answer to the older cluster response is stale; it must not start anything.
	r.ack(cds)
	r.ack(eds, "a", "b")
	r.ack(lds)
	r.ack(last)
	r.ack(rds, "a", "c")
	r.get("RDS c")
}

func TestSotwOnlyTypesWithAChange(t *testing.T) {
	f := newFixture(t, world(t, "a=1"))
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
	r.ack(r.get("CDS a"))
	r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: ListenerType})
	r.ack(r.get("LDS a"))
	f.change(snapshot(t, map[string][]string{ClusterType: {"a=1"}, ListenerType: {"a=2"}}))
	r.ack(r.get("LDS a"))
	f.change(snapshot(t, map[string][]string{ClusterType: {"a=1"}, ListenerType: {}}))
	r.ack(r.get("LDS"))
	f.change(snapshot(t, map[string][]string{ClusterType: {"a=2"}, ListenerType: {}}))
	r.ack(r.get("CDS a"))
}

// Envoy replaces a changed cluster, and the new one needs endpoints though these are
// the same.
func TestChangedClusterGetsEndpoints(t *testing.T) {
	first := snapshot(t, map[string][]string{ClusterType: {"a=1", "b=1"}, EndpointType: {"a=1", "b=1"}})
	second := snapshot(t, map[string][]string{ClusterType: {"a=2", "b=1"}, EndpointType: {"a=1", "b=1"}})
	t.Run("sotw", func(t *testing.T) {
		f := newFixture(t, first)
		r := rawSotw(t, f.conn)
		r.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
		r.ack(r.get("CDS a b"))
		r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: EndpointType, ResourceNames: []string{"a", "b"}})
		r.ack(r.get("EDS a b"), "a", "b")
		f.change(second)
		r.get("CDS a b")
		r.get("EDS a")
	})
	t.Run("delta", func(t *testing.T) {
		f := newFixture(t, first)
		r := rawDelta(t, f.conn)
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
		r.ackDelta(r.getDelta("CDS a b"))
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"a", "b"}})
		r.ackDelta(r.getDelta("EDS a b"))
		f.change(second)
		r.getDelta("CDS a")
		r.getDelta("EDS a")
	})
	t.Run("delta, endpoints brought along", func(t *testing.T) {
		f := newFixture(t, second)
		r := rawDelta(t, f.conn)
		had := map[string]string{}
		for n, res := range first[ClusterType] {
			had[n] = res.Version
		}
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType, InitialResourceVersions: had})
		r.getDelta("CDS a")
		had = map[string]string{}
		for n, res := range second[EndpointType] {
			had[n] = res.Version
		}
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"a", "b"}, InitialResourceVersions: had,
		})
		r.getDelta("EDS a")
	})
}

func TestSotwReconnectWithVersion(t *testing.T) {
	f := newFixture(t, world(t, "a=1", "b=1"))
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
	cds := r.get("CDS a b")
	r.ack(cds)
	// A new stream with that version: clusters are not sent, the next type is.
	again := rawSotw(t, f.conn)
	again.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType, VersionInfo: cds.VersionInfo})
	again.ask(&discoveryv3.DiscoveryRequest{TypeUrl: ListenerType, VersionInfo: "of another server", ResponseNonce: "old"})
	again.ack(again.get("LDS a b"))
	f.change(world(t, "a=2", "b=1"))
	again.get("CDS a b")
}

func TestSotwNack(t *testing.T) {
	f := newFixture(t, world(t, "a=1"))
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("envoy"), TypeUrl: RouteType, ResourceNames: []string{"a", "b"}})
	r.ack(r.get("RDS a"), "a", "b")
	f.change(world(t, "a=bad", "b=1"))
	bad := r.get("RDS a b")
	r.ask(&discoveryv3.DiscoveryRequest{
		TypeUrl: RouteType, ResponseNonce: bad.Nonce, ResourceNames: []string{"a", "b"}, ErrorDetail: refusal,
	})
	eventually(t, nil, "the NACK is seen", func() bool { return f.typeStatus(RouteType).Nack != nil })
	ts := f.typeStatus(RouteType)
	if want := (&Nack{NodeID: "envoy", TypeURL: RouteType, Version: bad.VersionInfo, Message: "no, thanks"}); !cmp.Equal(ts.Nack, want) {
		t.Errorf("nack %+v, want %+v", ts.Nack, want)
	}
	if !cmp.Equal(ts.Refused, []string{"a", "b"}) {
		t.Errorf("refused %q", ts.Refused)
	}
	// b was good but went down with a: it comes again with the next change.
	f.change(world(t, "a=2", "b=1"))
	r.ack(r.get("RDS a b"), "a", "b")
	eventually(t, nil, "the NACK is over", func() bool { return f.typeStatus(RouteType).Nack == nil })
}

func TestDeltaAsEnvoy(t *testing.T) {
	f := newFixture(t, world(t, "a=1", "b=1"))
	r := rawDelta(t, f.conn)
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("envoy"), TypeUrl: ClusterType})
	r.ackDelta(r.getDelta("CDS a b"))
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"a", "b", "x"}})
	r.ackDelta(r.getDelta("EDS a b"))
	r.ackDelta(r.getDelta("EDS -x"))
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType})
	r.ackDelta(r.getDelta("LDS a b"))
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"a", "b"}})
	r.ackDelta(r.getDelta("RDS a b"))

	// a stays, b goes, c comes, x appears: removals of what is referred to come last.
	next := world(t, "a=1", "c=1")
	next[EndpointType] = table(t, EndpointType, "a=1", "c=1", "x=1")
	f.change(next)
	for _, want := range []string{"CDS c", "EDS x", "LDS c -b", "RDS -b", "CDS -b", "EDS -b"} {
		r.ackDelta(r.getDelta(want))
	}

	// Unsubscribed: no more. Subscribed again: sent again, though unchanged.
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesUnsubscribe: []string{"a"}})
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: RouteType, ResourceNamesSubscribe: []string{"a"}})
	r.ackDelta(r.getDelta("RDS a"))
	// Under a wildcard an unsubscribed name is sent again: the client may have forgotten it.
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, ResourceNamesUnsubscribe: []string{"c"}})
	r.ackDelta(r.getDelta("LDS c"))
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: ListenerType, ResourceNamesSubscribe: []string{"a"}, ResourceNamesUnsubscribe: []string{"*"},
	})
	r.ackDelta(r.getDelta("LDS a"))
	next = world(t, "a=2", "c=2")
	f.change(next)
	for _, want := range []string{"CDS a c", "EDS a -x", "LDS a", "RDS a"} {
		if want == "EDS a -x" {
			r.ackDelta(r.getDelta("EDS a"))
			continue
		}
		r.ackDelta(r.getDelta(want))
	}
	r.getDelta("EDS -x")
}

func TestDeltaInitialVersions(t *testing.T) {
	f := newFixture(t, world(t, "a=1", "b=2"))
	old := world(t, "a=1", "b=1", "gone=1")
	had := func(typeURL string) map[string]string {
		out := map[string]string{}
		for n, res := range old[typeURL] {
			out[n] = res.Version
		}
		return out
	}
	r := rawDelta(t, f.conn)
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("envoy"), TypeUrl: ListenerType, InitialResourceVersions: had(ListenerType)})
	r.ackDelta(r.getDelta("LDS b -gone"))
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: RouteType, ResourceNamesSubscribe: []string{"a", "b", "gone"}, InitialResourceVersions: had(RouteType),
	})
	r.ackDelta(r.getDelta("RDS b -gone"))
}

func TestDeltaNackPerResource(t *testing.T) {
	f := newFixture(t, world(t, "a=1", "b=1"))
	r := rawDelta(t, f.conn)
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("envoy"), TypeUrl: ListenerType})
	r.ackDelta(r.getDelta("LDS a b"))
	f.change(world(t, "a=bad", "b=1"))
	bad := r.getDelta("LDS a")
	// Before the answer comes another change: the answers are told apart by nonce.
	f.change(world(t, "a=bad", "b=2"))
	good := r.getDelta("LDS b")
	r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, ResponseNonce: bad.Nonce, ErrorDetail: refusal})
	r.ackDelta(good)
	eventually(t, nil, "both are answered", func() bool {
		ts := f.typeStatus(ListenerType)
		return ts.Nack != nil && len(ts.Pending) == 0
	})
	ts := f.typeStatus(ListenerType)
	if !cmp.Equal(ts.Refused, []string{"a"}) || ts.Nack.Version != bad.SystemVersionInfo || ts.Accepted != good.SystemVersionInfo {
		t.Errorf("status %+v with %+v", ts, ts.Nack)
	}
	f.change(world(t, "a=3", "b=2"))
	r.ackDelta(r.getDelta("LDS a"))
	eventually(t, nil, "the NACK is over", func() bool { return f.typeStatus(ListenerType).Nack == nil })
}

func TestProtocolErrors(t *testing.T) {
	many := func(r *raw) {
		for i := range maxTypes + 1 {
			if r.sotw.Send(&discoveryv3.DiscoveryRequest{Node: node("n"), TypeUrl: fmt.Sprint("type/", i)}) != nil {
				return // the status comes from Recv
			}
		}
	}
	for name, c := range map[string]struct {
		send func(*raw)
		code codes.Code
		text string
	}{
		"no node": {func(r *raw) { r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: ClusterType}) },
			codes.InvalidArgument, "must have a node"},
		"no type": {func(r *raw) { r.ask(&discoveryv3.DiscoveryRequest{Node: node("n")}) },
			codes.InvalidArgument, "type_url is required"},
		"too many types": {many, codes.ResourceExhausted, "no more than 32 types"},
		"too large": {func(r *raw) {
			r.ask(&discoveryv3.DiscoveryRequest{Node: node("n"), TypeUrl: strings.Repeat("x", maxRequest+1)})
		}, codes.ResourceExhausted, "larger than max"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Snapshot{})
			r := rawSotw(t, f.conn)
			c.send(r)
			var err error
			for err == nil {
				_, err = r.sotw.Recv()
			}
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v %q", err, c.code, c.text)
			}
		})
	}
}

func TestNamesAreBounded(t *testing.T) {
	f := newFixture(t, Snapshot{})
	r := rawDelta(t, f.conn)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := r.delta.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	for i := 0; i < maxNamed/(1<<20)+8; i++ { // 1 MiB each
		err := r.delta.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: node("n"), TypeUrl: EndpointType, ResourceNamesSubscribe: []string{fmt.Sprint(i, strings.Repeat("x", 1<<20))},
		})
		if err != nil {
			break
		}
	}
	if err := <-ended; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestStreamsAreBoundedAndClose(t *testing.T) {
	gen := &generator{snap: world(t, "a=1")}
	server := NewServer(gen, ServerOptions{MaxStreams: 1})
	conn := pipe(t, server)
	r := rawSotw(t, conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("n"), TypeUrl: ClusterType})
	r.get("CDS a")
	if _, err := rawSotw(t, conn).sotw.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v", err)
	}
	server.Close()
	if _, err := r.sotw.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

// A client that does not read holds up nobody, and when it reads again gets what was on its
// way, and then the newest.
func TestSlowClient(t *testing.T) {
	eachForm(t, func(t *testing.T, delta bool) {
		big := strings.Repeat("x", 1<<20)
		content := func(i int) Snapshot {
			return snapshot(t, map[string][]string{ListenerType: {fmt.Sprintf("a=%d%s", i, big)}})
		}
		f := newFixture(t, content(0))
		recv := slowPeer(t, f, delta)

		quick := newStore()
		client := NewClient(f.conn, ClientOptions{Node: node("quick"), Delta: delta, Handler: quick})
		client.Subscribe(ListenerType, nil)
		run(t, client)
		const changes = 50
		for i := range changes {
			f.change(content(i))
			quick.await(t, content(i))
		}
		last := content(changes - 1)[ListenerType]["a"].Version
		for n := 1; ; n++ {
			if recv() == last {
				if n > 2 {
					t.Errorf("%d responses were sent without an answer", n-1)
				}
				return
			}
		}
	})
}

// slowPeer subscribes and then reads nothing until recv is called, which answers the next
// response and gives the version of the resource in it.
func slowPeer(t *testing.T, f *fixture, delta bool) (recv func() string) {
	if delta {
		r := rawDelta(t, f.conn)
		r.askDelta(&discoveryv3.DeltaDiscoveryRequest{Node: node("slow"), TypeUrl: ListenerType})
		return func() string {
			m := r.getDelta("LDS a")
			r.askDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, ResponseNonce: m.Nonce})
			return BodyVersion(m.Resources[0].Resource)
		}
	}
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("slow"), TypeUrl: ListenerType})
	return func() string {
		m := r.get("LDS a")
		r.ask(&discoveryv3.DiscoveryRequest{TypeUrl: ListenerType, ResponseNonce: m.Nonce, VersionInfo: m.VersionInfo})
		return BodyVersion(m.Resources[0])
	}
}

// A client may close its half.
func TestHalfClose(t *testing.T) {
	f := newFixture(t, world(t, "a=1"))
	r := rawSotw(t, f.conn)
	r.ask(&discoveryv3.DiscoveryRequest{Node: node("n"), TypeUrl: ClusterType})
	r.get("CDS a")
	if err := r.sotw.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sotw.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v, want EOF", err)
	}
	eventually(t, nil, "the stream is gone", func() bool { return len(f.server.Status()) == 0 })
}

func TestStatusOrder(t *testing.T) {
	f := newFixture(t, world(t, "a=1"))
	for _, id := range []string{"z", "a", "m"} {
		r := rawSotw(t, f.conn)
		for _, typeURL := range []string{ListenerType, ClusterType} {
			r.ask(&discoveryv3.DiscoveryRequest{Node: node(id), TypeUrl: typeURL})
			r.get(short(typeURL) + " a")
		}
	}
	var got []string
	for _, n := range f.server.Status() {
		got = append(got, n.NodeID)
		if !slices.IsSortedFunc(n.Types, func(a, b TypeStatus) int { return comparePushOrder(a.TypeURL, b.TypeURL) }) {
			t.Errorf("types of %q are out of order", n.NodeID)
		}
	}
	if want := []string{"a", "m", "z"}; !cmp.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
}
