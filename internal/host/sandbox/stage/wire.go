package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Kinds of frames between egret and a stage.
const (
	FramePlan    = 'P' // to a stage: Outer or Inner
	FrameFiles   = 'F' // from the outer stage: one open socket, with its name
	FrameNetwork = 'L' // from the outer stage: the network is complete
	FrameNote    = 'N' // from a stage: a sentence for the user
	FrameError   = 'E' // from a stage: a Failure; it exits
	FrameReady   = 'R' // from the inner stage: the command can be started
	FrameGo      = 'G' // to the inner stage: start it
	FrameStarted = 'S' // from the inner stage
	FrameSignal  = 'K' // to the inner stage: a signal number for the command
	FrameExit    = 'W' // from the inner stage: the command's wait status
)

// maxFrame bounds a frame: environment and arguments are bounded by the kernel to a
// few megabytes (execve(2)).
const maxFrame = 16 << 20

const frameHeader = 5

// AppendFrame appends a frame: its length, its kind, the payload.
func AppendFrame(b []byte, kind byte, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, kind), payload...)
}

// ReadFrame reads one frame. io.EOF means that the other side has closed.
func ReadFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", size)
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	return header[4], payload, nil
}

// Conn is a stage's end of a connection to egret, on a blocking socket.
type Conn struct{ fd int }

// NewConn uses the socket fd.
func NewConn(fd int) *Conn { return &Conn{fd: fd} }

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write sends a frame, with open files if any are given.
func (c *Conn) Write(kind byte, payload []byte, files ...int) error {
	frame := AppendFrame(nil, kind, payload)
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	for len(frame) > 0 {
		n, err := unix.SendmsgN(c.fd, frame, rights, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		frame, rights = frame[n:], nil
	}
	return nil
}

// Expect reads a frame that must be of the kind.
func (c *Conn) Expect(kind byte) ([]byte, error) {
	got, payload, err := ReadFrame(c)
	if err != nil {
		return nil, err
	}
	if got != kind {
		return nil, fmt.Errorf("frame %q where %q was expected", got, kind)
	}
	return payload, nil
}
