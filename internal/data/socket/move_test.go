package socket

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// moving has both sockets between which Move moves, and their outer ends.
type moving struct {
	pool     Pool
	moved    atomic.Uint64
	in, out  *net.TCPConn
	src, dst *net.TCPConn
}

func newMoving(t *testing.T) *moving {
	m := &moving{}
	m.in, m.src = tcpPair(t)
	m.dst, m.out = tcpPair(t)
	t.Cleanup(m.pool.Close)
	return m
}

func (m *moving) move(n int64) (int64, error, error) {
	return Move(Raw(m.dst), Raw(m.src), n, &m.pool, &m.moved)
}

// Move moves as many bytes as it is told and leaves the next ones where they are.
func TestMoveIsExact(t *testing.T) {
	m := newMoving(t)
	want := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{2})
	_, _ = random.Read(want)
	go func() {
		_, _ = m.in.Write(want)
		_, _ = m.in.Write([]byte("next"))
	}()
	got := make(chan []byte)
	go func() {
		b := make([]byte, len(want))
		_, _ = io.ReadFull(m.out, b)
		got <- b
	}()
	for _, n := range []int64{1, 70_000, 3<<20 - 70_001} {
		before := m.moved.Load()
		if moved, srcErr, dstErr := m.move(n); moved != n || srcErr != nil || dstErr != nil {
			t.Fatalf("%d of %d bytes: %v, %v", moved, n, srcErr, dstErr)
		}
		if m.moved.Load() == before {
			t.Error("no piece was counted")
		}
	}
	if !bytes.Equal(<-got, want) {
		t.Error("not what was sent")
	}
	rest := make([]byte, 4)
	if _, err := io.ReadFull(m.src, rest); err != nil || string(rest) != "next" {
		t.Errorf("what follows is %q, %v", rest, err)
	}
}

// The end of the source is told apart from what the receiver does.
func TestMoveTellsWhichSideEnded(t *testing.T) {
	t.Run("source", func(t *testing.T) {
		m := newMoving(t)
		_, _ = m.in.Write([]byte("abc"))
		_ = m.in.CloseWrite()
		if moved, srcErr, dstErr := m.move(10); moved != 3 || srcErr != io.EOF || dstErr != nil {
			t.Errorf("%d bytes, %v, %v", moved, srcErr, dstErr)
		}
	})
	t.Run("receiver", func(t *testing.T) {
		m := newMoving(t)
		_ = m.dst.CloseWrite()
		_, _ = m.in.Write([]byte("abc"))
		if moved, srcErr, dstErr := m.move(3); moved != 0 || srcErr != nil || dstErr != syscall.EPIPE {
			t.Errorf("%d bytes, %v, %v", moved, srcErr, dstErr)
		}
		if len(m.pool.idle) > 0 {
			t.Error("a pipe with bytes in it was kept")
		}
	})
}

// Parts arrive as one, whatever is empty.
func TestSendParts(t *testing.T) {
	near, far := tcpPair(t)
	for _, parts := range [][3]string{{"a", "bc", "def"}, {"", "bc", ""}, {"a", "", "def"}} {
		want := parts[0] + parts[1] + parts[2]
		raw := Raw(near)
		n, errno := 0, syscall.Errno(0)
		if err := raw.Write(func(fd uintptr) bool {
			n, errno = SendParts(fd, &[3][]byte{[]byte(parts[0]), []byte(parts[1]), []byte(parts[2])})
			return true
		}); err != nil || errno != 0 || n != len(want) {
			t.Fatalf("%d bytes sent: %v, %v", n, err, errno)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(far, got); err != nil || string(got) != want {
			t.Errorf("%q arrived as %q, %v", want, got, err)
		}
	}
}
