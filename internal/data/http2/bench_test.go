package http2

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// answer1K answers with 1 KiB, as little as a proxy's origin does.
func answer1K() func(*Stream) {
	body := make([]byte, 1024)
	return func(s *Stream) {
		x := exchanges.Get().(*exchange)
		defer exchanges.Put(x)
		if s.ReadRequest(&x.q) != nil {
			return
		}
		x.r.Fields.Reset()
		x.r = http1.Response{Status: 200, Framing: http1.Length, Length: 1024, Fields: x.r.Fields}
		x.r.Fields.Add("content-type", "text/plain")
		x.r.Fields.Add("date", "Thu, 01 Jan 1970 00:00:00 GMT")
		x.r.Fields.Add("x-envoy-upstream-service-time", "1")
		if s.WriteResponse(&x.r, false) == nil {
			_ = s.Write(body, true)
		}
	}
}

type exchange struct {
	q http1.Request
	r http1.Response
}

var exchanges = sync.Pool{New: func() any { return &exchange{} }}

// get makes one request and reads the response.
func get(c *Client, x *exchange) error {
	s, err := c.Open()
	if err != nil {
		return err
	}
	defer s.Release()
	x.q.Fields.Reset()
	x.q = http1.Request{Method: "GET", Path: "/some/path?with=query", Authority: "service.example.com", Fields: x.q.Fields}
	x.q.Fields.Add("User-Agent", "h2load nghttp2/1.52.0")
	x.q.Fields.Add("Accept", "*/*")
	x.q.Fields.Add("x-forwarded-proto", "http")
	x.q.Fields.Add("x-request-id", "6b1f0e5c-0b1e-4d2c-8a25-8f8c5b4a2d11")
	if err := s.WriteRequest(&x.q, "http", true); err != nil {
		return err
	}
	if err := s.ReadResponse(&x.r); err != nil {
		return err
	}
	n := 0
	for {
		p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n += len(p)
	}
	if x.r.Status != 200 || n != 1024 {
		return fmt.Errorf("status %d, %d bytes", x.r.Status, n)
	}
	return nil
}

// cpu is the process's CPU time in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// parallel runs b.N operations on so many goroutines and reports CPU time.
func parallel(b *testing.B, n int, op func() error) {
	b.ReportAllocs()
	ops := make(chan struct{}, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range ops {
				if err := op(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	start := cpu()
	for range b.N {
		ops <- struct{}{}
	}
	close(ops)
	wg.Wait()
	b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
}

// BenchmarkRoundTrip is client and server together, 1 KiB answers.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			s := startServer(b, Options{}, answer1K())
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				b.Fatal(err)
			}
			c, err := NewClient(nc, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			parallel(b, n, func() error {
				x := exchanges.Get().(*exchange)
				defer exchanges.Put(x)
				return get(c, x)
			})
		})
	}
}

// BenchmarkStandard is the same by the standard library, for comparison.
func BenchmarkStandard(b *testing.B) {
	body := make([]byte, 1024)
	addr := standardServer(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/plain")
		_, _ = w.Write(body)
	})
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			c := transport(b)
			parallel(b, n, func() error {
				res, err := c.Get("http://" + addr + "/some/path?with=query")
				if err != nil {
					return err
				}
				defer res.Body.Close()
				_, err = io.Copy(io.Discard, res.Body)
				return err
			})
		})
	}
}
