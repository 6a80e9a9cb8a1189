package http

import "testing"

func TestFrames(t *testing.T) {
	message := func(n int) string {
		return string(append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...))
	}
	three := message(3) + message(0) + message(70_000)
	for name, c := range map[string]struct {
		body string
		want uint64
	}{
		"nothing": {"", 0}, "one": {message(5), 1}, "an empty one": {message(0), 1}, "three": {three, 3},
		"half a prefix": {three + "\x00\x00", 3}, "a prefix alone": {"\x01\xff\xff\xff\xff", 1},
	} {
		for _, piece := range []int{1, 2, 5, 6, 1 << 20} {
			var f frames
			for rest := c.body; rest != ""; {
				n := min(piece, len(rest))
				f.add([]byte(rest[:n]))
				rest = rest[n:]
			}
			if f.messages != c.want {
				t.Errorf("%s in pieces of %d: %d messages, want %d", name, piece, f.messages, c.want)
			}
		}
	}
}
