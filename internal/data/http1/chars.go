package http1

import "unsafe"

// Character classes, as bits of class.
const (
	clsToken       = 1 << iota // RFC 9110 section 5.6.2 tchar
	clsMethod                  // A-Z, 0-9, '-', '_': the methods that every parser reads alike
	clsTarget                  // 0x21-0x7e but '#'
	clsTargetOther             // '#' and what is not ASCII: see cleanTarget
	clsHost                    // names and IPv4 literals: A-Z a-z 0-9 . - _
	clsDigit
	clsHex
)

var class = func() (t [256]uint8) {
	for c := 0; c < 256; c++ {
		alpha := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if digit {
			t[c] |= clsDigit | clsHex
		}
		if c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= clsHex
		}
		if alpha || digit || contains("!#$%&'*+-.^_`|~", byte(c)) {
			t[c] |= clsToken
		}
		if c >= 'A' && c <= 'Z' || digit || c == '-' || c == '_' {
			t[c] |= clsMethod
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= clsTarget
		}
		if c == '#' || c >= 0x80 {
			t[c] |= clsTargetOther
		}
		if alpha || digit || c == '.' || c == '-' || c == '_' {
			t[c] |= clsHost
		}
	}
	return t
}()

var lower = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			t[c] = byte(c) + 'a' - 'A'
		}
	}
	return t
}()

func contains(s string, c byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == c {
			return true
		}
	}
	return false
}

// all reports whether every byte of s has one of the classes in mask.
func all[T ~string | ~[]byte](s T, mask uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&mask == 0 {
			return false
		}
	}
	return true
}

// EqualFold compares ASCII without regard to case. want must be lower case.
func EqualFold(s, want string) bool {
	if len(s) != len(want) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if lower[s[i]] != want[i] {
			return false
		}
	}
	return true
}

// equalFold compares ASCII without regard to case on both sides.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

// text views b as a string without copying. The result is valid only as long as
// b's bytes do not change: until the message is released.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// trim removes optional white space (SP and HTAB) from both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// checkValue is nil when v has no control characters but HTAB. It looks at eight
// bytes at a time: field values are most of what the parser reads.
func checkValue(v []byte) *Error {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(v); i += 8 {
		w := uint64(v[i]) | uint64(v[i+1])<<8 | uint64(v[i+2])<<16 | uint64(v[i+3])<<24 |
			uint64(v[i+4])<<32 | uint64(v[i+5])<<40 | uint64(v[i+6])<<48 | uint64(v[i+7])<<56
		below := (w - ones*0x20) &^ w & highs // some byte < 0x20 (may also mark its neighbour)
		del := w ^ ones*0x7f
		del = (del - ones) &^ del & highs // some byte == 0x7f
		if below|del != 0 {
			if err := checkValueSlowly(v[i : i+8]); err != nil {
				return err
			}
		}
	}
	return checkValueSlowly(v[i:])
}

func checkValueSlowly(v []byte) *Error {
	for _, c := range v {
		switch {
		case c == 0:
			return errFieldNUL
		case c == '\r':
			return errBareCR
		case c < 0x20 && c != '\t', c == 0x7f:
			return errFieldValue
		}
	}
	return nil
}
