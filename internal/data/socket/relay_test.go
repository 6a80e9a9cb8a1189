package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair is the two ends of a TCP connection.
func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// unixPair is the two ends of a socket pair.
func unixPair(t testing.TB) (near, far *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// relayed is a relay that runs: what is written to in comes out of out.
type relayed struct {
	relay   *Relay
	in, out net.Conn // the outer ends
	src     net.Conn
	done    chan error
}

func run(t *testing.T, pool *Pool, in, src, dst, out net.Conn) *relayed {
	t.Helper()
	r, ok := NewRelay(dst, src, pool, nil)
	if !ok {
		t.Fatal("not sockets")
	}
	x := &relayed{relay: r, in: in, out: out, src: src, done: make(chan error, 1)}
	go func() { x.done <- errors.Join(r.Run()) }()
	return x
}

func runTCP(t *testing.T, pool *Pool) *relayed {
	in, src := tcpPair(t)
	dst, out := tcpPair(t)
	return run(t, pool, in, src, dst, out)
}

// Small pieces and large ones arrive whole and in order, over TCP and Unix sockets;
// most of what is large is spliced.
func TestRelayMovesEverything(t *testing.T) {
	kinds := map[string]func(t *testing.T, p *Pool) *relayed{
		"tcp": runTCP,
		"unix to tcp": func(t *testing.T, p *Pool) *relayed {
			in, src := unixPair(t)
			dst, out := tcpPair(t)
			return run(t, p, in, src, dst, out)
		},
		"tcp to unix": func(t *testing.T, p *Pool) *relayed {
			in, src := tcpPair(t)
			dst, out := unixPair(t)
			return run(t, p, in, src, dst, out)
		},
		"unix": func(t *testing.T, p *Pool) *relayed {
			in, src := unixPair(t)
			dst, out := unixPair(t)
			return run(t, p, in, src, dst, out)
		},
	}
	want := make([]byte, 24<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(want)
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			var pool Pool
			defer pool.Close()
			x := start(t, &pool)
			go func() {
				rest := want
				for _, n := range []int{1, 100, bufferSize, bufferSize + 1, 3} {
					_, _ = x.in.Write(rest[:n])
					rest = rest[n:]
				}
				_, _ = x.in.Write(rest)
				_ = x.in.(interface{ CloseWrite() error }).CloseWrite()
			}()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(x.out, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("not what was sent: %v", err)
			}
			if err := <-x.done; err != nil {
				t.Error(err)
			}
			if x.relay.Total() != int64(len(want)) || x.relay.spliced < int64(len(want))/2 {
				t.Errorf("%d of %d bytes moved, %d spliced", x.relay.Total(), len(want), x.relay.spliced)
			}
		})
	}
}

// A relay that waits holds no pipe, also after it has spliced.
func TestWaitingHoldsNothing(t *testing.T) {
	var pool Pool
	defer pool.Close()
	x := runTCP(t, &pool)
	const size = 4 << 20
	go func() { _, _ = x.in.Write(make([]byte, size)) }()
	if _, err := io.ReadFull(x.out, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	pipes := func() int {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return len(pool.idle)
	}
	for deadline := time.Now().Add(10 * time.Second); pipes() != 1; {
		if time.Now().After(deadline) {
			t.Fatalf("%d pipes came back", pipes())
		}
	}
	_ = x.in.Close()
	if err := <-x.done; err != nil {
		t.Error(err)
	}
	if x.relay.holds || x.relay.buffer != nil {
		t.Error("something is held after the end")
	}
}

// A receiver that does not read stops the relay without loss, and a deadline of the
// past ends it with bytes in the pipe: the pipe is closed, not used again.
func TestStuckReceiver(t *testing.T) {
	var pool Pool
	defer pool.Close()
	x := runTCP(t, &pool)
	if err := x.in.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := x.in.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Fatalf("the relay took %d bytes for one that does not read: %v", n, err)
	}
	before := openFiles(t)
	_ = x.src.Close()
	_ = x.out.Close()
	if err := <-x.done; err == nil {
		t.Error("no error")
	}
	if after := openFiles(t); after >= before {
		t.Errorf("%d files before, %d after", before, after)
	}
	if len(pool.idle) > 0 && x.relay.inPipe > 0 {
		t.Error("a pipe with bytes in it was kept")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

// Errors of the receiver end the relay.
func TestReceiverGone(t *testing.T) {
	var pool Pool
	defer pool.Close()
	x := runTCP(t, &pool)
	_ = x.out.(*net.TCPConn).SetLinger(0)
	_ = x.out.Close()
	for i := 0; ; i++ {
		if _, err := x.in.Write([]byte(strconv.Itoa(i))); err != nil {
			t.Fatal("the sender was closed by nobody: ", err)
		}
		select {
		case err := <-x.done:
			if err == nil {
				t.Error("no error")
			}
			return
		default:
		}
	}
}

// Only sockets are relayed: whoever encrypts or buffers has bytes that are not there.
func TestRaw(t *testing.T) {
	tcp, _ := tcpPair(t)
	local, _ := unixPair(t)
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	for _, tc := range []struct {
		conn net.Conn
		want bool
	}{{tcp, true}, {local, true}, {pipe, false}, {struct{ net.Conn }{tcp}, false}} {
		if got := Raw(tc.conn) != nil; got != tc.want {
			t.Errorf("%T: %v", tc.conn, got)
		}
	}
}

// Moving a piece allocates nothing.
func TestRelayDoesNotAllocate(t *testing.T) {
	var pool Pool
	defer pool.Close()
	in, src := tcpPair(t)
	dst, out := tcpPair(t)
	r, _ := NewRelay(dst, src, &pool, nil)
	message, got := make([]byte, 200), make([]byte, 200)
	n := testing.AllocsPerRun(200, func() {
		_, _ = in.Write(message)
		if err := errors.Join(r.take(), r.give()); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(out, got)
	})
	if n > 0 {
		t.Errorf("%v allocations per piece", n)
	}
}
