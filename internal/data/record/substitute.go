package record

// maxValues bounds the compiled header values that are kept of configurations.
const maxValues = 1024

// AppendValue appends what a header value with command operators comes to for e: the
// operators of the access log. As in Envoy what has no value prints nothing. Control
// characters, which would end the header, become "?". A value that format.Parse refuses
// appends nothing.
func (r *Recorder) AppendValue(dst []byte, text string, e *Entry) []byte {
	ops := r.valueOps(text)
	begin := len(dst)
	for i := range ops {
		if ops[i].from == fromLiteral {
			dst = append(dst, ops[i].text...)
			continue
		}
		switch v := ops[i].value(r, e); v.kind {
		case kindNone:
		case kindWord, kindForeign:
			dst = append(dst, v.s...)
		default:
			dst = v.appendPlain(dst, e, &ops[i])
		}
	}
	for i, c := range dst[begin:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			dst[begin+i] = '?'
		}
	}
	return dst
}

// valueOps compiles a value, once for as long as there is room.
func (r *Recorder) valueOps(text string) []op {
	if ops, ok := r.values.Load(text); ok {
		return ops.([]op)
	}
	ops, err := compileText(text)
	if err != nil {
		ops = nil
	}
	if r.valueCount.Add(1) <= maxValues {
		r.values.Store(text, ops)
	}
	return ops
}
