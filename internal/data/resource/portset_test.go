package resource

import "testing"

func TestPortSet(t *testing.T) {
	a := portSet{{10, 20}}
	b := portSet{{15, 30}}
	for _, tc := range []struct {
		name string
		s    portSet
		in   []uint16
		out  []uint16
	}{
		{"range", a, []uint16{10, 19}, []uint16{9, 20}},
		{"not", a.not(), []uint16{0, 9, 20, 65535}, []uint16{10, 19}},
		{"or", a.or(b), []uint16{10, 29}, []uint16{9, 30}},
		{"and", a.and(b), []uint16{15, 19}, []uint16{14, 20}},
		{"none", nil, nil, []uint16{0, 65535}},
		{"all", portSet(nil).not(), []uint16{0, 65535}, nil},
		{"not all", portSet(nil).not().not(), nil, []uint16{0, 65535}},
	} {
		for _, p := range tc.in {
			if !tc.s.has(p) {
				t.Errorf("%s: %d is out", tc.name, p)
			}
		}
		for _, p := range tc.out {
			if tc.s.has(p) {
				t.Errorf("%s: %d is in", tc.name, p)
			}
		}
	}
}
