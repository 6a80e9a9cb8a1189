package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	maxStreams    = 128 // TCP connections at the same time; more are closed at once
	streamIdle    = 10 * time.Second
	streamWrite   = 5 * time.Second
	acceptBackoff = 50 * time.Millisecond
	maxReadErrors = 16 // in a row, before ServePacket gives up
)

// ServePacket answers queries on a UDP socket until ctx is done or the socket is
// closed; then it returns nil. It closes conn. Answers from the name table are given
// in line; only questions that go outside have a goroutine, at most maxOutside.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	socket := newSocket(conn)
	buf := make([]byte, maxMessage)
	for failures := 0; ; {
		n, to, err := socket.read(buf)
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// For instance ECONNREFUSED, told by ICMP about an earlier answer.
			if failures++; failures >= maxReadErrors {
				return err
			}
			continue
		}
		failures = 0
		x := read(buf[:n])
		if x == nil {
			s.counts.dropped.Add(1)
			continue
		}
		x.q.client, x.q.local = to.client, socket.local
		if x.resp == nil {
			if n := s.answer(x); n != answered {
				s.later(ctx, &wg, n, x, func() { s.send(socket, x, to) })
				continue
			}
		}
		s.send(socket, x, to)
	}
}

// later answers when what the exchange waits for is there. Each has a goroutine, and
// there are only so many of them.
func (s *Server) later(ctx context.Context, wg *sync.WaitGroup, n next, x *exchange, send func()) {
	turns := s.turns(n)
	if !turn(turns, x) {
		send()
		return
	}
	wg.Go(func() {
		s.finish(ctx, n, x, turns)
		send()
	})
}

// finish answers an exchange that waits and has its turn, which it gives back.
func (s *Server) finish(ctx context.Context, n next, x *exchange, turns chan struct{}) {
	if n == asking {
		n = s.wait(ctx, x)
		<-turns
		if turns = s.outside; n != outside || !turn(turns, x) {
			return
		}
	}
	defer func() { <-turns }()
	s.ask(ctx, x)
}

func (s *Server) turns(n next) chan struct{} {
	if n == asking {
		return s.asking
	}
	return s.outside
}

// turn takes one of the turns; without one the answer is SERVFAIL.
func turn(turns chan struct{}, x *exchange) bool {
	select {
	case turns <- struct{}{}:
		return true
	default:
		x.reply(mdns.RcodeServerFailure)
		return false
	}
}

func (s *Server) send(socket *socket, x *exchange, to peer) {
	out, err := x.pack(true)
	if err == nil {
		err = socket.write(out, to)
	}
	if err != nil {
		s.counts.dropped.Add(1)
		s.log.Debug("DNS answer not sent", "name", x.q.name, "client", x.q.client, "error", err)
	}
}

// socket is a packet socket that answers from the address it was asked at. That
// matters where many addresses are redirected to one socket: the answer must fit the
// redirected connection.
type socket struct {
	conn  net.PacketConn
	udp   *net.UDPConn // nil: not UDP
	local netip.AddrPort
}

// peer is where an answer goes.
type peer struct {
	addr    net.Addr
	session *mdns.SessionUDP
	client  netip.AddrPort
}

func newSocket(conn net.PacketConn) *socket {
	s := &socket{conn: conn, local: addrPort(conn.LocalAddr())}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return s
	}
	err6 := ipv6.NewPacketConn(udp).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	err4 := ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	if err4 == nil || err6 == nil {
		s.udp = udp
	}
	return s
}

func (s *socket) read(buf []byte) (int, peer, error) {
	if s.udp == nil {
		n, addr, err := s.conn.ReadFrom(buf)
		return n, peer{addr: addr, client: addrPort(addr)}, err
	}
	n, session, err := mdns.ReadFromSessionUDP(s.udp, buf)
	if err != nil {
		return n, peer{}, err
	}
	return n, peer{session: session, client: addrPort(session.RemoteAddr())}, nil
}

func (s *socket) write(b []byte, to peer) error {
	var err error
	if s.udp == nil {
		_, err = s.conn.WriteTo(b, to.addr)
	} else {
		_, err = mdns.WriteToSessionUDP(s.udp, b, to.session)
	}
	return err
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ServeStream answers queries over TCP (RFC 7766) until ctx is done or l is closed;
// then it returns nil, after the last connection ended. It closes l.
func (s *Server) ServeStream(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxStreams)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			s.log.Warn("accepting a DNS connection failed", "error", err)
			select { // out of file descriptors, most likely
			case <-ctx.Done():
			case <-time.After(acceptBackoff):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				s.serveConn(ctx, conn)
			})
		default:
			s.counts.dropped.Add(1)
			_ = conn.Close()
		}
	}
}

// serveConn answers the queries of one connection, one after the other.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	client, local := addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	buf := make([]byte, maxMessage)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(streamIdle))
		packet, err := readMessage(conn, buf)
		if err != nil {
			return
		}
		x := read(packet)
		if x == nil {
			s.counts.dropped.Add(1)
			return
		}
		x.q.client, x.q.local = client, local
		if x.resp == nil {
			if n := s.answer(x); n != answered && turn(s.turns(n), x) {
				s.finish(ctx, n, x, s.turns(n))
			}
		}
		out, err := x.pack(false)
		if err != nil {
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

var errTooLong = errors.New("query too long")

// readMessage reads one message with its length in front.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > len(buf) {
		return nil, errTooLong
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}
