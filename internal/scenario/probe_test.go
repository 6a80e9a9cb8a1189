package scenario

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// probe is a program that the scripts run inside the sandbox: it tries one way out
// and prints what came of it. It exits 0 when it got an answer from somewhere.
//
//	probe tcp ADDR:PORT [TEXT]       connect, say TEXT, print what comes back
//	probe http ADDR:PORT RAW         the same, with \r\n written in RAW
//	probe get [-X METHOD] URL [H: V] fetch, print status, headers and body; no redirects
//	probe h2c ADDR:PORT              speak HTTP/2 with prior knowledge, print what comes back
//	probe grpc NAME:PORT             ask gRPC's health service, once and as a stream
//	probe tls ADDR:PORT SNI          handshake; SNI "-" sends none
//	probe udp ADDR:PORT              send a datagram, wait for an answer or an error
//	probe icmp ADDR                  send an echo request
//	probe dns SERVER NAME TYPE       ask a server of one's own choice
//	probe socket FAMILY TYPE         open a socket of a kind
//	probe raw, hello, flood, names   see hostile_test.go
func probe() {
	args := os.Args[1:]
	if len(args) < 2 {
		fail(errors.New("probe: too few arguments"))
	}
	probes := map[string]func([]string) error{
		"tcp": probeTCP, "http": probeTCP, "get": probeGet, "h2c": probeH2C, "grpc": probeGRPC, "tls": probeTLS, "udp": probeUDP,
		"icmp": probeICMP, "dns": probeDNS, "socket": probeSocket,
		"raw": probeRaw, "hello": probeHello, "flood": probeFlood, "names": probeNames,
	}
	p, ok := probes[args[0]]
	if !ok {
		fail(fmt.Errorf("probe: unknown kind %q", args[0]))
	}
	fail(p(args[1:]))
}

func fail(err error) {
	if err != nil {
		fmt.Println("probe failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

const probeTimeout = 10 * time.Second

func probeTCP(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(probeTimeout))
	if len(args) > 1 {
		text := strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(args[1])
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	fmt.Printf("%s", buf[:n])
	if n == 0 {
		return fmt.Errorf("closed without an answer: %w", err)
	}
	return nil
}

func probeTLS(args []string) error {
	config := &tls.Config{InsecureSkipVerify: true} // the question is whether bytes get through
	if len(args) > 1 && args[1] != "-" {
		config.ServerName = args[1]
	}
	raw, err := net.DialTimeout("tcp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(probeTimeout))
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	fmt.Println("connected to", c.ConnectionState().PeerCertificates[0].DNSNames)
	return nil
}

func probeUDP(args []string) error {
	c, err := net.DialTimeout("udp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(probeTimeout))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	fmt.Printf("%s\n", buf[:n])
	return err
}

// probeICMP uses the unprivileged kind of ICMP socket, which ping uses.
func probeICMP(args []string) error {
	addr, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: addr.As4()}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 1500), 0)
	return err
}

func probeDNS(args []string) error {
	if len(args) != 3 {
		return errors.New("probe dns SERVER NAME TYPE")
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(args[1]), dns.StringToType[args[2]])
	resp, _, err := (&dns.Client{Timeout: probeTimeout}).Exchange(m, args[0])
	if err != nil {
		return err
	}
	fmt.Println(dns.RcodeToString[resp.Rcode])
	for _, rr := range resp.Answer {
		fmt.Println(strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return nil
}

func probeSocket(args []string) error {
	families := map[string]int{"vsock": unix.AF_VSOCK, "packet": unix.AF_PACKET, "inet": unix.AF_INET, "bluetooth": unix.AF_BLUETOOTH}
	types := map[string]int{"stream": unix.SOCK_STREAM, "dgram": unix.SOCK_DGRAM, "raw": unix.SOCK_RAW}
	protocol := 0
	if args[0] == "inet" && args[1] == "raw" {
		protocol = unix.IPPROTO_UDP
	}
	_, err := unix.Socket(families[args[0]], types[args[1]], protocol)
	return err
}

// origin is a server that the scripts run inside a sandbox, to see that the
// workload's own loopback is its own: "origin ADDR:PORT" answers each line.
func origin() {
	flag.Parse()
	ln, err := net.Listen("tcp", flag.Arg(0))
	if err != nil {
		fail(err)
	}
	c, err := ln.Accept()
	if err != nil {
		fail(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		fail(err)
	}
	_, err = fmt.Fprintf(c, "own server heard %s", line)
	fail(err)
}

// stream keeps one connection open: "stream ADDR:PORT FILE" says "hello one", and
// then the content of FILE each time that it appears, and prints what comes back,
// until the connection is closed.
func stream() {
	flag.Parse()
	c, err := dialUntil(flag.Arg(0))
	if err != nil {
		fail(err)
	}
	if _, err := io.WriteString(c, "hello one\n"); err != nil {
		fail(err)
	}
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		for range tick.C {
			text, err := os.ReadFile(flag.Arg(1))
			if err != nil || len(text) == 0 {
				continue
			}
			_ = os.Remove(flag.Arg(1))
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	}()
	_, _ = io.Copy(os.Stdout, c)
	os.Exit(0)
}

// dialUntil dials until the server echoes, as the policy may still be on its way.
func dialUntil(addr string) (net.Conn, error) {
	var last error
	for end := time.Now().Add(waitLimit); time.Now().Before(end); {
		c, err := net.DialTimeout("tcp", addr, probeTimeout)
		if err != nil {
			last = err
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err = c.Write([]byte("?")); err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		if err == nil {
			_ = c.SetReadDeadline(time.Time{})
			return c, nil
		}
		last = err
		_ = c.Close()
	}
	return nil, last
}
