package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// Names of the listening sockets.
const (
	nameTCP4, nameTCP6             = "tcp4", "tcp6"
	nameDNSPacket4, nameDNSPacket6 = "dns-udp4", "dns-udp6"
	nameDNSStream4, nameDNSStream6 = "dns-tcp4", "dns-tcp6"
)

func listeningSockets() []stage.Socket {
	return []stage.Socket{
		{Name: nameTCP4, Port: intercept.TCPPort},
		{Name: nameTCP6, Port: intercept.TCPPort, IPv6: true},
		{Name: nameDNSPacket4, Port: intercept.DNSPort, Packet: true},
		{Name: nameDNSPacket6, Port: intercept.DNSPort, Packet: true, IPv6: true},
		{Name: nameDNSStream4, Port: intercept.DNSPort},
		{Name: nameDNSStream6, Port: intercept.DNSPort, IPv6: true},
	}
}

// rightsReader reads a connection and keeps the file descriptors that come with it
// (SCM_RIGHTS, unix(7)).
type rightsReader struct {
	conn  *net.UnixConn
	files []int
}

func (r *rightsReader) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	if oobn > 0 {
		messages, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range messages {
			fds, rightsErr := unix.ParseUnixRights(&m)
			r.files = append(r.files, fds...)
			parseErr = errors.Join(parseErr, rightsErr)
		}
		err = errors.Join(err, parseErr)
	}
	return n, err
}

// take gives the one file that has come, -1 for none.
func (r *rightsReader) take() int {
	fd := -1
	for i, f := range r.files {
		if i == 0 {
			fd = f
			continue
		}
		_ = unix.Close(f)
	}
	r.files = nil
	return fd
}

// adopt makes a handed out socket one of the sandbox's.
func (s *Sandbox) adopt(name string, fd int) error {
	if fd < 0 {
		return fmt.Errorf("socket %s was not handed out", name)
	}
	if name == stage.PacketLogName {
		err := unix.SetNonblock(fd, true) // so that it can be closed while it is read
		s.packetLog = os.NewFile(uintptr(fd), name)
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // the listeners have copies
	var err error
	switch name {
	case nameTCP4, nameTCP6:
		s.tcp, err = listener(s.tcp, f)
	case nameDNSStream4, nameDNSStream6:
		s.dnsStreams, err = listener(s.dnsStreams, f)
	case nameDNSPacket4, nameDNSPacket6:
		var c net.PacketConn
		if c, err = net.FilePacketConn(f); err == nil {
			s.dnsPackets = append(s.dnsPackets, c)
		}
	default:
		err = errors.New("not asked for")
	}
	if err != nil {
		return fmt.Errorf("socket %s: %w", name, err)
	}
	return nil
}

func listener(l []net.Listener, f *os.File) ([]net.Listener, error) {
	n, err := net.FileListener(f)
	if err != nil {
		return l, err
	}
	return append(l, n), nil
}

func (s *Sandbox) closeSockets() {
	for _, l := range append(s.tcp, s.dnsStreams...) {
		_ = l.Close()
	}
	for _, c := range s.dnsPackets {
		_ = c.Close()
	}
	if s.packetLog != nil {
		_ = s.packetLog.Close()
	}
}
