package netns

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// answer is one NLMSG_ERROR message; errno 0 acknowledges.
func answer(errno unix.Errno) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+4+unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr:], uint32(-int32(errno)))
	return b
}

func TestFirstError(t *testing.T) {
	if err := firstError(append(answer(0), answer(0)...)); err != nil {
		t.Errorf("two acknowledgements: %v", err)
	}
	if err := firstError(append(append(answer(0), answer(unix.EBUSY)...), answer(unix.EPERM)...)); !errors.Is(err, unix.EBUSY) {
		t.Errorf("acknowledgement, EBUSY, EPERM: %v", err)
	}
	if err := firstError([]byte{200, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		t.Error("a message longer than the answer was accepted")
	}
}

func TestExchange(t *testing.T) {
	link := func(flags uint16) []byte {
		b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
		binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETLINK)
		binary.NativeEndian.PutUint16(b[6:], flags)
		binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], 1) // lo
		return b
	}
	if err := Exchange(unix.NETLINK_ROUTE, link(unix.NLM_F_REQUEST|unix.NLM_F_ACK)); err != nil {
		t.Errorf("ask for lo: %v", err)
	}
	missing := link(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	binary.NativeEndian.PutUint32(missing[unix.SizeofNlMsghdr+4:], 1<<30)
	if err := Exchange(unix.NETLINK_ROUTE, missing); !errors.Is(err, unix.ENODEV) {
		t.Errorf("ask for an interface that is not there: %v", err)
	}
	if err := Exchange(unix.NETLINK_ROUTE, link(0)); err == nil {
		t.Error("a message that is not a request was answered")
	}
}

func FuzzFirstError(f *testing.F) {
	f.Add(answer(0))
	f.Add(append(answer(0), answer(unix.EPERM)...))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = firstError(b) })
}
