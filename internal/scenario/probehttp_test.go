package scenario

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// probeGet is a well-behaved client: it prints the status line, the headers in order,
// an empty line and the body. A header of the form "Host: name" is the Host.
func probeGet(args []string) error {
	method := http.MethodGet
	if args[0] == "-X" && len(args) > 2 {
		method, args = args[1], args[2:]
	}
	req, err := http.NewRequest(method, args[0], nil)
	if err != nil {
		return err
	}
	for _, h := range args[1:] {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	client := &http.Client{
		Timeout:       probeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Proto, resp.Status)
	var lines []string
	for name, values := range resp.Header {
		lines = append(lines, strings.ToLower(name)+": "+strings.Join(values, ", "))
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n") + "\n")
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// probeH2C sends one HTTP/2 request in plain text and prints the head that answers.
func probeH2C(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], probeTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(probeTimeout))
	host, _, _ := net.SplitHostPort(args[0])
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", host}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	fr := http2.NewFramer(c, c)
	if err := fr.WriteSettings(); err != nil {
		return err
	}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		return err
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return fmt.Errorf("GOAWAY %s %s", f.ErrCode, f.DebugData())
		case *http2.HeadersFrame:
			fields, err := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				return err
			}
			for _, f := range fields {
				fmt.Printf("%s: %s\n", f.Name, f.Value)
			}
			if f.StreamEnded() {
				return nil
			}
		case *http2.DataFrame: // to the end: the server is not hung up on
			if f.StreamEnded() {
				return nil
			}
		}
	}
}
