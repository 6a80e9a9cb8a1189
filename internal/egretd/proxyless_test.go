package egretd_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/runtest"
)

// grpc-go's own xDS client takes its configuration from egretd and calls the host of a
// ServiceEntry, with no proxy between (gRFC A27).
func TestGRPCWithoutProxy(t *testing.T) {
	first, second := startGreeter(t, "first"), startGreeter(t, "second")
	dir := t.TempDir()
	write(t, dir, "entry.yaml", serviceEntry("greeter.example.com", first, second))
	write(t, dir, "routes.yaml", split(75, 25))
	plane := startPlane(t, dir)
	client := dialProxyless(t, plane, "xds:///greeter.example.com:80")

	t.Run("weights", func(t *testing.T) {
		count := map[string]int{}
		for range 400 {
			name, err := greet(client, "/greeter/Name")
			if err != nil {
				t.Fatal(err)
			}
			count[name]++
		}
		// 300 are expected, and 9 is the standard deviation.
		if n := count["first"]; n < 220 || n > 380 || count["second"] != 400-n {
			t.Errorf("a split of 75 to 25 went %v", count)
		}
	})
	t.Run("an edit takes effect on the open channel", func(t *testing.T) {
		write(t, dir, "routes.yaml", split(0, 100))
		runtest.Eventually(t, "all calls go to the second", func() bool {
			for range 50 {
				if name, err := greet(client, "/greeter/Name"); err != nil || name != "second" {
					return false
				}
			}
			return true
		})
	})
	t.Run("timeout", func(t *testing.T) {
		if _, err := greet(client, "/greeter/Hang"); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call without a deadline of its own, on a route with a timeout: %v", err)
		}
	})
	t.Run("retries", func(t *testing.T) {
		second.failures.Store(2)
		if name, err := greet(client, "/greeter/Name"); err != nil || name != "second" {
			t.Errorf("a call that fails twice, on a route with three retries: %q, %v", name, err)
		}
	})
	t.Run("a fault of the policy", func(t *testing.T) {
		if _, err := greet(client, "/greeter/Fault"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a route that aborts: %v", err)
		}
	})
	t.Run("a deleted host can no longer be called", func(t *testing.T) {
		write(t, dir, "entry.yaml", "")
		runtest.Eventually(t, "the call fails", func() bool {
			_, err := greet(client, "/greeter/Name")
			return status.Code(err) == codes.Unavailable
		})
	})
}

// While the control plane is away gRPC goes on with what it has; when it is back, on the
// same address, the next edit takes effect on the open channel.
func TestGRPCWithoutControlPlane(t *testing.T) {
	first, second := startGreeter(t, "first"), startGreeter(t, "second")
	dir := t.TempDir()
	write(t, dir, "entry.yaml", serviceEntry("greeter.example.com", first, second))
	write(t, dir, "routes.yaml", split(100, 0))
	plane, stop := servePlane(t, dir, "127.0.0.1:0")
	client := dialProxyless(t, plane, "xds:///greeter.example.com:80")
	call := func(want string) {
		t.Helper()
		if name, err := greet(client, "/greeter/Name"); err != nil || name != want {
			t.Errorf("%q, %v; want %q", name, err, want)
		}
	}
	call("first")
	for range 2 {
		stop()
		for range 50 {
			call("first")
		}
		_, stop = servePlane(t, dir, plane)
		for range 50 {
			call("first")
		}
	}
	write(t, dir, "routes.yaml", split(0, 100))
	runtest.Eventually(t, "the edit takes effect", func() bool {
		name, err := greet(client, "/greeter/Name")
		if err != nil {
			t.Fatal(err)
		}
		return name == "second"
	})
}

// What is not registered cannot be called, whatever DNS may say: localhost has an address,
// and something listens there.
func TestGRPCUnknownHost(t *testing.T) {
	there := startGreeter(t, "there")
	dir := t.TempDir()
	write(t, dir, "entry.yaml", serviceEntry("greeter.example.com", there, there))
	target := fmt.Sprintf("localhost:%d", there.address.Port())
	client := dialProxyless(t, startPlane(t, dir), "xds:///"+target)
	var err error
	runtest.Eventually(t, "an error that names the host, whatever gRPC learns first", func() bool {
		_, err = greet(client, "/greeter/Name")
		return err == nil || strings.Contains(err.Error(), target)
	})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("an unknown host: %v", err)
	}
	if n := there.calls.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

// A host that DNS resolves is found by the application's own DNS (gRFC A37).
func TestGRPCHostByDNS(t *testing.T) {
	there := startGreeter(t, "there")
	dir := t.TempDir()
	write(t, dir, "entry.yaml", fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-name}
spec:
  hosts: [named.example.com]
  ports: [{number: 80, name: grpc, protocol: GRPC, targetPort: %d}]
  resolution: DNS
  endpoints: [{address: localhost}]
`, there.address.Port()))
	client := dialProxyless(t, startPlane(t, dir), "xds:///named.example.com:80")
	if name, err := greet(client, "/greeter/Name"); err != nil || name != "there" {
		t.Errorf("%q, %v", name, err)
	}
}

// serviceEntry has one host with two subsets, each with one endpoint.
func serviceEntry(host string, first, second *greeter) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: greeter}
spec:
  hosts: [%[1]s]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {grpc: %[2]d}, labels: {version: first}}
  - {address: 127.0.0.1, ports: {grpc: %[3]d}, labels: {version: second}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec:
  host: %[1]s
  subsets:
  - {name: first, labels: {version: first}}
  - {name: second, labels: {version: second}}
`, host, first.address.Port(), second.address.Port())
}

func split(first, second int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter.example.com]
  http:
  - match: [{uri: {exact: /greeter/Hang}}]
    timeout: 0.1s
    route: [{destination: {host: greeter.example.com, subset: second}}]
  - match: [{uri: {exact: /greeter/Fault}}]
    fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}
    corsPolicy: {allowOrigins: [{exact: https://example.com}]}
    route: [{destination: {host: greeter.example.com}}]
  - retries: {attempts: 3, retryOn: unavailable}
    route:
    - {destination: {host: greeter.example.com, subset: first}, weight: %d}
    - {destination: {host: greeter.example.com, subset: second}, weight: %d}
`, first, second)
}

// greeter is a gRPC server that answers /greeter/Name with its name.
type greeter struct {
	address  netip.AddrPort
	calls    atomic.Int32
	failures atomic.Int32 // this many calls fail first
}

func startGreeter(t *testing.T, name string) *greeter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{address: netip.MustParseAddrPort(ln.Addr().String())}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		g.calls.Add(1)
		if method, _ := grpc.MethodFromServerStream(stream); method == "/greeter/Hang" {
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		if g.failures.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "not now")
		}
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		return stream.SendMsg(wrapperspb.String(name))
	}))
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(ln); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return g
}

func greet(client *grpc.ClientConn, method string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runtest.Patience)
	defer cancel()
	answer := &wrapperspb.StringValue{}
	err := client.Invoke(ctx, method, &emptypb.Empty{}, answer)
	return answer.GetValue(), err
}

// dialProxyless makes a channel with the bootstrap that egret bootstrap --for grpc prints.
func dialProxyless(t *testing.T, plane, target string) *grpc.ClientConn {
	t.Helper()
	node := mesh.Node{Type: mesh.NodeProxyless, Name: "client", Namespace: "default", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	text, err := bootstrap.GRPC(bootstrap.Options{Node: xdsgen.EncodeNode(node, "cluster.local"), Servers: []string{plane}})
	if err != nil {
		t.Fatal(err)
	}
	xds, err := grpcxds.NewXDSResolverWithConfigForTesting(text)
	if err != nil {
		t.Fatal(err)
	}
	client, err := grpc.NewClient(target, grpc.WithResolvers(xds), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+"~", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}
