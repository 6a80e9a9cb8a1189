package scenario

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// probeRaw says a text with escapes as in Go ("\x00") and prints all that comes back
// until the connection ends: "probe raw ADDR:PORT TEXT". When nothing comes any more it
// ends its side; not before, as Envoy drops a client that does while it answers.
func probeRaw(args []string) error {
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(probeQuiet))
	n, err := io.Copy(os.Stdout, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(probeTimeout))
		var more int64
		more, err = io.Copy(os.Stdout, c)
		n += more
	}
	if n == 0 {
		return fmt.Errorf("closed without an answer: %w", err)
	}
	return nil
}

// probeQuiet is how long probe raw waits for the other side's end.
const probeQuiet = time.Second

// probeHello sends a ClientHello in an unusual form and prints what kind of record
// answers: "probe hello ADDR:PORT SNI FORM".
func probeHello(args []string) error {
	hello, err := clientHello(args[1])
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(probeTimeout))
	for _, piece := range helloPieces(hello, args[2]) {
		if _, err := c.Write(piece); err != nil {
			return err
		}
	}
	answer := make([]byte, 7)
	if n, err := io.ReadAtLeast(c, answer, 1); err != nil || answer[0] != 22 {
		return fmt.Errorf("no ServerHello: % x %w", answer[:n], err)
	}
	fmt.Println("a server said hello")
	return nil
}

// helloPieces are what is written one after the other.
func helloPieces(hello []byte, form string) [][]byte {
	var out [][]byte
	switch form {
	case "bytes": // each byte by itself
		for i := range hello {
			out = append(out, hello[i:i+1])
		}
	case "records": // a record for every few bytes of the message
		var all []byte
		for body := hello[5:]; len(body) > 0; {
			n := min(7, len(body))
			all = append(append(all, 22, 3, 1, 0, byte(n)), body[:n]...)
			body = body[n:]
		}
		out = append(out, all)
	case "after-junk": // something else before it
		out = append(out, []byte("\x00\x01\x02\x03"), hello)
	case "after-alert": // a warning before it, which some servers skip
		out = append(out, []byte{21, 3, 1, 0, 2, 1, 0}, hello)
	case "after-empty": // an empty record before it
		out = append(out, []byte{22, 3, 1, 0, 0}, hello)
	case "ssl2": // the form of SSL 2.0, which has no server name
		out = append(out, []byte("\x80\x1c\x01\x03\x01\x00\x03\x00\x00\x00\x10\x00\x00\x2f0123456789abcdef"))
	case "half": // never ends
		out = append(out, hello[:len(hello)/2])
	default:
		out = append(out, hello)
	}
	return out
}

// clientHello is the first record that crypto/tls sends.
func clientHello(sni string) ([]byte, error) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: sni, InsecureSkipVerify: true}).Handshake()
		_ = near.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := far.Read(buf)
	if n < 5 {
		return nil, errors.Join(errors.New("no hello"), err)
	}
	return buf[:n], nil
}

// probeFlood opens connections that say half a request and keeps them until standard
// input ends: "probe flood NUMBER ADDR:PORT". It prints "full" when all were tried.
func probeFlood(args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var open []net.Conn
	var mu sync.Mutex
	var wg sync.WaitGroup
	turns := make(chan struct{}, 64)
	for range number {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c, err := net.DialTimeout("tcp", args[1], probeTimeout)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: half")
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		})
	}
	wg.Wait()
	fmt.Println("full")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, c := range open {
		_ = c.Close()
	}
	return nil
}

// probeNames asks for names, one after the other: "probe names NUMBER SUFFIX".
func probeNames(args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	c, err := dns.Dial("udp", "192.0.2.53:53")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	answered := 0
	for i := range number {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(fmt.Sprintf("n%d.%s", i, args[1])), dns.TypeA)
		_ = c.SetDeadline(time.Now().Add(probeTimeout))
		if err := c.WriteMsg(m); err != nil {
			return err
		}
		if _, err := c.ReadMsg(); err != nil {
			return err
		}
		answered++
	}
	fmt.Println("answered", answered)
	return nil
}
