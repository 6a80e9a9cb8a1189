package record

import "unicode/utf8"

const hexDigits = "0123456789ABCDEF"

// appendEscaped appends a value that came from the network. Everything that could
// forge a second line, close a quoted field or drive a terminal becomes \xHH: control
// characters, '"', '\' and bytes above 0x7E. Envoy prints such bytes as they are;
// here a workload chooses them and a person or a parser believes the log. Outside
// of quotes (inQuotes false) a space is escaped too, so that fields stay countable.
func appendEscaped(dst []byte, s string, inQuotes bool) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c > 0x20 && c < 0x7f && c != '"' && c != '\\' || c == ' ' && inQuotes {
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		start = i + 1
	}
	return append(dst, s[start:]...)
}

// appendJSONString appends s as a JSON string (RFC 8259). Bytes that are not UTF-8
// become U+FFFD; C1 controls and the separators U+2028 and U+2029 are escaped too.
func appendJSONString(dst []byte, s string) []byte {
	return append(appendJSONInner(append(dst, '"'), s), '"')
}

// appendJSONInner is appendJSONString without the quotes around it.
func appendJSONInner(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c == '\n':
				dst = append(dst, '\\', 'n')
			case c == '\r':
				dst = append(dst, '\\', 'r')
			case c == '\t':
				dst = append(dst, '\\', 't')
			case c < 0x20 || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			dst = append(dst, "\\ufffd"...)
		case r < 0xa0 || r == 0x2028 || r == 0x2029:
			dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}
