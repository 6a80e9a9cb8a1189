package http2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// TestEncoder: golang.org/x/net's decoder reads what the encoder writes, in the same
// order, while the peer changes the table's size.
func TestEncoder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	e := newEncoder()
	var got []hpack.HeaderField
	d := hpack.NewDecoder(encoderTable, func(f hpack.HeaderField) { got = append(got, f) })
	names := []string{"accept", "x-one", "date", "content-type", "authorization", "x-" + strings.Repeat("long", 20), ":path"}
	buf := make([]byte, 0, 100)
	for i := range 5000 {
		if rnd.IntN(50) == 0 {
			for range rnd.IntN(3) {
				e.setMax(uint32(rnd.IntN(6000)))
			}
			n := uint32(rnd.IntN(6000))
			e.setMax(n)
			d.SetAllowedMaxDynamicTableSize(n)
		}
		var want []hpack.HeaderField
		block := e.begin(nil)
		for range rnd.IntN(10) {
			name := names[rnd.IntN(len(names))]
			// The value's bytes are used again, as those of a read buffer are.
			buf = append(buf[:0], fmt.Sprint(rnd.IntN(1+i%30))...)
			value := text(buf)
			block = e.field(block, name, value, secret(name))
			want = append(want, hpack.HeaderField{Name: name, Value: strings.Clone(value), Sensitive: secret(name)})
		}
		got = nil
		if _, err := d.Write(block); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if err := d.Close(); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("block %d: got %v, want %v", i, got, want)
		}
	}
}

// TestEncoderLearns: what comes again takes a byte; what is new each time does not push
// it out; secrets are never indexed.
func TestEncoderLearns(t *testing.T) {
	e := newEncoder()
	for i := range 1000 {
		e.field(nil, "x-request-id", fmt.Sprint("some-long-identifier-", i), false)
		e.field(nil, "user-agent", "curl", false)
	}
	if n := len(e.field(nil, "user-agent", "curl", false)); n != 1 {
		t.Errorf("%d bytes", n)
	}
	if len(e.entries) != 1 {
		t.Errorf("%d entries", len(e.entries))
	}
	for range 3 {
		if b := e.field(nil, "authorization", "secret", true); b[0]&0xf0 != 0x10 {
			t.Errorf("first byte %x", b[0])
		}
	}
}

// TestStaticTable: the indexes are those of the RFC, as the decoder knows it.
func TestStaticTable(t *testing.T) {
	for name, i := range staticNames {
		var got string
		d := hpack.NewDecoder(0, func(f hpack.HeaderField) { got = f.Name })
		if _, err := d.Write(appendIndexed(nil, uint64(i))); err != nil || got != name {
			t.Errorf("%d is %q, not %q (%v)", i, got, name, err)
		}
	}
	if len(staticNames) != 52 {
		t.Errorf("%d names", len(staticNames))
	}
	for _, status := range []int{200, 204, 206, 304, 400, 404, 500, 101, 201, 503} {
		var got string
		d := hpack.NewDecoder(0, func(f hpack.HeaderField) { got = f.Value })
		if _, err := d.Write(newEncoder().status(nil, status)); err != nil {
			t.Error(err)
		}
		want := fmt.Sprint(status)
		if status == 101 {
			want = "200"
		}
		if got != want {
			t.Errorf("%d became %s", status, got)
		}
	}
}

// TestFieldsOfHTTP1: names become lower case, what belongs to a connection is left out.
func TestFieldsOfHTTP1(t *testing.T) {
	var f http1.Fields
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "TE", "Proxy-Connection", "X-Kept", "proxy-status"} {
		f.Add(name, "v")
	}
	var got []string
	d := hpack.NewDecoder(encoderTable, func(f hpack.HeaderField) { got = append(got, f.Name) })
	e := newEncoder()
	for range 3 {
		got = nil
		if _, err := d.Write(e.fields(nil, &f)); err != nil || fmt.Sprint(got) != "[x-kept proxy-status]" {
			t.Errorf("%v, %v", got, err)
		}
	}
}
