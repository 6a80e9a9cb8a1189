package record

import (
	"strconv"
	"time"
)

// timeFormat is a compiled START_TIME format. The zero value is Envoy's default,
// ISO 8601 with milliseconds in UTC.
type timeFormat struct{ parts []timePart }

type timePart struct {
	literal string // printed when layout and verb are empty
	layout  string // a layout of package time
	verb    byte   // 's' seconds since the epoch, 'f' fraction, 'e' day padded with a space
	digits  int    // of 'f'
}

// layouts are the strftime conversions that package time can print.
var layouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
	'p': "PM", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'j': "002",
	'Z': "MST", 'z': "-0700", 'T': "15:04:05", 'F': "2006-01-02", 'D': "01/02/06",
	'R': "15:04", 'e': "_2", 'c': "Mon Jan _2 15:04:05 2006",
}

// compileTime understands strftime, Envoy's additions (%s, %f, %1f to %9f) and the
// %E3S form of its default. An unknown conversion is printed as it stands.
func compileTime(format string) *timeFormat {
	f := &timeFormat{}
	literal := func(s string) { f.parts = append(f.parts, timePart{literal: s}) }
	for len(format) > 0 {
		i := 0
		for i < len(format) && format[i] != '%' {
			i++
		}
		if i > 0 {
			literal(format[:i])
			format = format[i:]
			continue
		}
		part, n := compileConversion(format)
		f.parts = append(f.parts, part)
		format = format[n:]
	}
	return f
}

// compileConversion reads the conversion at the start of s and how long it is.
func compileConversion(s string) (timePart, int) {
	if len(s) < 2 {
		return timePart{literal: s}, len(s)
	}
	c := s[1]
	switch {
	case c == '%':
		return timePart{literal: "%"}, 2
	case c == 's':
		return timePart{verb: 's'}, 2
	case c == 'f':
		return timePart{verb: 'f', digits: 9}, 2
	case c >= '1' && c <= '9' && len(s) > 2 && s[2] == 'f':
		return timePart{verb: 'f', digits: int(c - '0')}, 3
	case c == 'E' && len(s) > 3 && s[2] >= '1' && s[2] <= '9' && s[3] == 'S':
		return timePart{layout: "05.000000000"[:3+int(s[2]-'0')]}, 4
	}
	if layout, ok := layouts[c]; ok {
		return timePart{layout: layout}, 2
	}
	return timePart{literal: s[:2]}, 2
}

// append prints t in its own zone. A nil format is the default.
func (f *timeFormat) append(dst []byte, t time.Time) []byte {
	if f == nil {
		return appendISO(dst, t)
	}
	for i := range f.parts {
		p := &f.parts[i]
		switch {
		case p.layout != "":
			dst = t.AppendFormat(dst, p.layout)
		case p.verb == 's':
			dst = strconv.AppendInt(dst, t.Unix(), 10)
		case p.verb == 'f':
			dst = appendPadded(dst, t.Nanosecond(), 9)
			dst = dst[:len(dst)-(9-p.digits)]
		default:
			dst = append(dst, p.literal...)
		}
	}
	return dst
}

// appendISO prints 2006-01-02T15:04:05.000Z, or the zone's offset in place of Z. It is by hand since it is on every line.
func appendISO(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(appendPadded(dst, year, 4), '-')
	dst = append(dst, tens(int(month)), ones(int(month)), '-', tens(day), ones(day), 'T',
		tens(hour), ones(hour), ':', tens(minute), ones(minute), ':', tens(second), ones(second), '.')
	dst = appendPadded(dst, t.Nanosecond()/1e6, 3)
	if t.Location() == time.UTC {
		return append(dst, 'Z')
	}
	return t.AppendFormat(dst, "-0700")
}

// tens and ones are the digits of a number below 100.
func tens(n int) byte { return byte('0' + n/10) }
func ones(n int) byte { return byte('0' + n%10) }

func appendPadded(dst []byte, n, width int) []byte {
	var b [10]byte
	for i := width - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, b[:width]...)
}
