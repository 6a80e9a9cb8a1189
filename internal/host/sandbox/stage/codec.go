package stage

import (
	"encoding/binary"
	"errors"
)

// encoder and decoder are the plans' encoding: numbers are 64-bit little-endian,
// strings and lists have their length first. (encoding/json and encoding/gob would
// cost each stage several milliseconds of initialisation.)
type encoder struct{ b []byte }

func (e *encoder) number(n int)    { e.b = binary.LittleEndian.AppendUint64(e.b, uint64(n)) }
func (e *encoder) string(s string) { e.number(len(s)); e.b = append(e.b, s...) }
func (e *encoder) bytes(s []byte)  { e.string(string(s)) }
func (e *encoder) bool(v bool)     { e.number(map[bool]int{true: 1}[v]) }
func (e *encoder) strings(l []string) {
	e.number(len(l))
	for _, s := range l {
		e.string(s)
	}
}

var errCut = errors.New("the plan is cut off")

// decoder reads what encoder wrote; after an error it gives zero values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) number() int {
	if len(d.b) < 8 {
		d.b, d.err = nil, errCut
		return 0
	}
	n := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return int(n)
}

func (d *decoder) string() string {
	n := d.number()
	if n < 0 || n > len(d.b) {
		d.b, d.err = nil, errCut
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) bytes() []byte {
	if s := d.string(); s != "" {
		return []byte(s)
	}
	return nil
}

func (d *decoder) bool() bool { return d.number() != 0 }

// count reads a list's length; every element takes at least eight bytes.
func (d *decoder) count() int {
	n := d.number()
	if n < 0 || n > len(d.b)/8 {
		d.b, d.err = nil, errCut
		return 0
	}
	return n
}

func (d *decoder) strings() []string {
	var l []string
	for range d.count() {
		l = append(l, d.string())
	}
	return l
}

func (d *decoder) finish() error {
	if d.err == nil && len(d.b) > 0 {
		return errors.New("the plan has something after its end")
	}
	return d.err
}

// EncodeNumber gives the payload of FrameSignal and FrameExit.
func EncodeNumber(n int) []byte {
	e := &encoder{}
	e.number(n)
	return e.b
}

// DecodeNumber reads what EncodeNumber wrote.
func DecodeNumber(b []byte) (int, error) {
	d := &decoder{b: b}
	return d.number(), d.finish()
}
