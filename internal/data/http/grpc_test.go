package http

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// plainCodec sends strings as they are, so that no service has to be generated.
type plainCodec struct{}

func (plainCodec) Name() string                       { return "plain" }
func (plainCodec) Marshal(v any) ([]byte, error)      { return []byte(*v.(*string)), nil }
func (plainCodec) Unmarshal(data []byte, v any) error { *v.(*string) = string(data); return nil }

var _ encoding.Codec = plainCodec{}

// grpcServer is a real gRPC server whose every method is a stream that handle serves.
func grpcServer(t *testing.T, handle func(method string, s grpc.ServerStream) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(plainCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		return handle(method, s)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return l.Addr().String()
}

// grpcWorld is a world whose origin is a gRPC server, and a real client of the proxy.
func grpcWorld(t *testing.T, authority string, handle func(method string, s grpc.ServerStream) error) (*world, *grpc.ClientConn) {
	t.Helper()
	addr := grpcServer(t, handle)
	w := newWorld(t, addr)
	w.speak(2)
	w.configure(w.clusterOf("origin", addr), w.routeTo("origin"))
	c, err := grpc.NewClient("passthrough:///"+w.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(authority), grpc.WithDefaultCallOptions(grpc.ForceCodec(plainCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return w, c
}

var bidi = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// echo answers each message with itself.
func echo(_ string, s grpc.ServerStream) error {
	for {
		var m string
		if err := s.RecvMsg(&m); err != nil {
			if err == io.EOF {
				s.SetTrailer(metadata.Pairs("x-done", "yes"))
				return nil
			}
			return err
		}
		if m == "fail" {
			return status.Error(codes.ResourceExhausted, "no more: 100%")
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

func patientContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	t.Cleanup(cancel)
	return ctx
}

// TestGRPCStreaming: messages go both ways one by one, and trailers at the end.
func TestGRPCStreaming(t *testing.T) {
	w, c := grpcWorld(t, "example.com", echo)
	s, err := c.NewStream(patientContext(t), bidi, "/test.Echo/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		m := strings.Repeat(fmt.Sprint(i), 1+i*500)
		if err := s.SendMsg(&m); err != nil {
			t.Fatal(err)
		}
		var back string
		if err := s.RecvMsg(&back); err != nil || back != m {
			t.Fatalf("message %d: %d bytes back, %v", i, len(back), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var m string
	if err := s.RecvMsg(&m); err != io.EOF {
		t.Fatal(err)
	}
	if got := s.Trailer().Get("x-done"); len(got) != 1 || got[0] != "yes" {
		t.Errorf("trailers %v", s.Trailer())
	}
	if e := w.next(); e.Status != 200 || e.Reason != "" || e.Path != "/test.Echo/Chat" || e.Protocol != "HTTP/2" {
		t.Errorf("recorded %+v", e)
	}
}

// TestGRPCStatus: the server's status comes through, after messages and without any.
func TestGRPCStatus(t *testing.T) {
	w, c := grpcWorld(t, "example.com", echo)
	m := "fail"
	err := c.Invoke(patientContext(t), "/test.Echo/Once", &m, &m)
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || s.Message() != "no more: 100%" {
		t.Errorf("%v", err)
	}
	if e := w.next(); e.Status != 200 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
}

// TestGRPCDenied: what is refused is a gRPC status with the reason in its message, not
// an HTTP response that gRPC does not understand.
func TestGRPCDenied(t *testing.T) {
	w, c := grpcWorld(t, "other.example", echo)
	m := "hello"
	var header metadata.MD
	err := c.Invoke(patientContext(t), "/test.Echo/Once", &m, &m, grpc.Trailer(&header))
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.HasPrefix(s.Message(), "egret: not_in_registry: ") {
		t.Errorf("%v", err)
	}
	if got := header.Get("x-egret-reason"); len(got) != 1 || got[0] != "not_in_registry" {
		t.Errorf("%v", header)
	}
	if e := w.next(); e.Reason != reason.NotInRegistry || e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
}

// TestGRPCEnds: who cancels a call ends it upstream, and so does the route's timeout.
func TestGRPCEnds(t *testing.T) {
	began, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	w, c := grpcWorld(t, "example.com", func(_ string, s grpc.ServerStream) error {
		began <- struct{}{}
		<-s.Context().Done()
		ended <- struct{}{}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	m := "hello"
	if err := c.Invoke(ctx, "/test.Echo/Once", &m, &m); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	<-ended
	w.next()
	route := w.routeTo("origin")
	route.Forward.Timeout = 50 * time.Millisecond
	w.configure(w.cluster(), route)
	if err := c.Invoke(patientContext(t), "/test.Echo/Once", &m, &m); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "upstream_timeout") {
		t.Errorf("%v", err)
	}
	<-ended
	if e := w.next(); e.Reason != reason.UpstreamTimeout || e.Flags != "UT" {
		t.Errorf("recorded %+v", e)
	}
}

// TestGRPCStreamEndsWithPolicy: a call under way that is no longer allowed ends.
func TestGRPCStreamEndsWithPolicy(t *testing.T) {
	w, c := grpcWorld(t, "example.com", echo)
	s, err := c.NewStream(patientContext(t), bidi, "/test.Echo/Chat")
	if err != nil {
		t.Fatal(err)
	}
	m := "hello"
	if err := s.SendMsg(&m); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&m); err != nil {
		t.Fatal(err)
	}
	w.configureHost(w.cluster(), &resource.VirtualHost{Name: "other", Domains: []string{"other.com"}, Routes: []*resource.Route{w.routeTo("origin")}})
	if err := s.RecvMsg(&m); err == nil || err == io.EOF {
		t.Errorf("the call goes on: %v", err)
	}
	if e := w.next(); e.Reason != reason.PolicyChanged {
		t.Errorf("recorded %+v", e)
	}
}
