package install

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// step of a path: a name, or the place in a list by number or by name.
type step struct {
	name   string
	list   bool
	number int // -1: by name
}

// maxIndex bounds the lists that --set makes.
const maxIndex = 1000

// parsePath reads a path of --set as istioctl has it: a.b, a.list[0].b, a.list[name:x].b;
// a backslash before a dot makes it a part of the name.
func parsePath(path string) ([]step, error) {
	var steps []step
	var name strings.Builder
	flush := func() error {
		if name.Len() == 0 {
			return errors.New("an empty name in the path")
		}
		steps = append(steps, step{name: name.String()})
		name.Reset()
		return nil
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			name.WriteByte(path[i])
		case c == '.':
			if name.Len() == 0 && len(steps) > 0 && steps[len(steps)-1].list {
				continue // after a bracket
			}
			if err := flush(); err != nil {
				return nil, err
			}
		case c == '[':
			end := strings.IndexByte(path[i:], ']')
			if end < 0 {
				return nil, errors.New("no \"]\" after \"[\"")
			}
			if name.Len() > 0 {
				if err := flush(); err != nil {
					return nil, err
				}
			}
			place, err := parsePlace(path[i+1 : i+end])
			if err != nil || len(steps) == 0 {
				return nil, cmpErr(err, errors.New("a list without a name"))
			}
			steps = append(steps, place)
			i += end
		default:
			name.WriteByte(c)
		}
	}
	if name.Len() == 0 && len(steps) > 0 && steps[len(steps)-1].list {
		return steps, nil
	}
	return steps, flush()
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// parsePlace reads what is between brackets.
func parsePlace(s string) (step, error) {
	if name, ok := strings.CutPrefix(s, "name:"); ok && name != "" {
		return step{name: name, list: true, number: -1}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxIndex {
		return step{}, fmt.Errorf("[%s] is no place in a list: a number from 0 to %d, or name:NAME", s, maxIndex)
	}
	return step{list: true, number: n}, nil
}

// set puts a value where path says.
func set(t tree, path, value string) error {
	steps, err := parsePath(path)
	if err != nil {
		return err
	}
	_, err = put(t, steps, scalar(value))
	return err
}

// scalar is the value of --set: true and false, null, whole numbers; all else is text.
func scalar(s string) any {
	switch s {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
		return n
	}
	return s
}

// put gives what stands in the place of have when value is where the steps say below it.
func put(have any, steps []step, value any) (any, error) {
	if len(steps) == 0 {
		return value, nil
	}
	s := steps[0]
	if !s.list {
		m, ok := have.(tree)
		if !ok {
			if have != nil {
				return nil, fmt.Errorf("%q is below something that is no map", s.name)
			}
			m = tree{}
		}
		below, err := put(m[s.name], steps[1:], value)
		m[s.name] = below
		return m, err
	}
	list, ok := have.([]any)
	if !ok && have != nil {
		return nil, errors.New("a place in something that is no list")
	}
	i := s.number
	if i < 0 {
		i = slices.IndexFunc(list, func(v any) bool { m, ok := v.(tree); return ok && text(m, "name") == s.name })
		if i < 0 {
			list, i = append(list, tree{"name": s.name}), len(list)
		}
	}
	for len(list) <= i {
		list = append(list, nil)
	}
	below, err := put(list[i], steps[1:], value)
	list[i] = below
	return list, err
}
