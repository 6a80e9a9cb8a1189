// Package format reads Envoy's substitution format strings ("%REQ(:METHOD)% ..."): it
// splits them into parts, knows every command operator of Envoy 1.40, and says which of
// them Egret prints, leaves empty or refuses.
//
// It is pure and prints nothing: what a command's value is, its users know. It must not
// import any package of this module.
package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds on formats, so that a configuration cannot make its users grow without end.
const (
	MaxLength    = 64 << 10
	MaxParts     = 4096
	MaxJSONDepth = 32
)

// Part is a piece of a format: a literal, or a command.
type Part struct {
	Literal string // when Command is ""
	Command string // its first name in Envoy's documents: "REQ", never "REQUEST_HEADER"
	Args    string // what stands between the parentheses
	// Max is how many bytes of the value are printed; 0: all.
	Max int
	// Quoted: the part stands between two '"' of the format's literals.
	Quoted bool
}

// Parse splits a format. An error names the command that is unknown or refused, or what
// is wrong with its argument.
func Parse(text string) ([]Part, error) { return parse(text, 0) }

func parse(text string, depth int) ([]Part, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("a format of %d bytes: more than %d", len(text), MaxLength)
	}
	p := parser{depth: depth}
	for text != "" {
		rest, err := p.next(text)
		if err != nil {
			return nil, err
		}
		if len(p.parts) > MaxParts {
			return nil, fmt.Errorf("a format of more than %d parts", MaxParts)
		}
		text = rest
	}
	return p.parts, nil
}

type parser struct {
	parts  []Part
	quoted bool
	depth  int
}

// next takes one literal or command from the start of s and returns the rest.
func (p *parser) next(s string) (string, error) {
	if s[0] != '%' {
		n := strings.IndexByte(s, '%')
		if n < 0 {
			n = len(s)
		}
		p.literal(s[:n])
		return s[n:], nil
	}
	if strings.HasPrefix(s, "%%") {
		p.literal("%")
		return s[2:], nil
	}
	part, n, ok := split(s)
	if !ok {
		return "", fmt.Errorf("%q is not a command operator", abbreviate(s))
	}
	if err := part.check(p.depth); err != nil {
		return "", fmt.Errorf("%q: %w", abbreviate(s[:n]), err)
	}
	part.Quoted = p.quoted
	p.parts = append(p.parts, part)
	return s[n:], nil
}

// literal takes s as it is, and keeps count of quotes.
func (p *parser) literal(s string) {
	if strings.Count(s, `"`)%2 == 1 {
		p.quoted = !p.quoted
	}
	if last := len(p.parts) - 1; last >= 0 && p.parts[last].Command == "" {
		p.parts[last].Literal += s
	} else {
		p.parts = append(p.parts, Part{Literal: s})
	}
}

func abbreviate(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// split reads %NAME%, %NAME(args)% and %NAME(args):max% at the start of s; n is its
// length. As in Envoy, the arguments end at the first ")" that "%" or ":max%" follows.
func split(s string) (part Part, n int, ok bool) {
	i := 1
	for i < len(s) && (s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || s[i] == '_') {
		i++
	}
	if i == 1 || i == len(s) {
		return part, 0, false
	}
	part.Command = s[1:i]
	switch s[i] {
	case '%':
		return part, i + 1, true
	case ':':
		part.Max, n = readMax(s, i)
		return part, n, n > 0
	case '(':
	default:
		return part, 0, false
	}
	for j := i + 1; j+1 < len(s); j++ {
		if s[j] != ')' {
			continue
		}
		part.Args = s[i+1 : j]
		if s[j+1] == '%' {
			return part, j + 2, true
		}
		if s[j+1] == ':' {
			if part.Max, n = readMax(s, j+1); n > 0 {
				return part, n, true
			}
		}
	}
	return part, 0, false
}

// readMax reads ":digits%" at s[i:]; end 0 says it is not there.
func readMax(s string, i int) (max, end int) {
	j := i + 1
	for j < len(s) && s[j] >= '0' && s[j] <= '9' && j-i <= 7 {
		j++
	}
	if j == i+1 || j == len(s) || s[j] != '%' {
		return 0, 0
	}
	max, _ = strconv.Atoi(s[i+1 : j])
	return max, j + 1
}

// check finds the command and checks the argument; it gives the part the command's
// first name.
func (p *Part) check(depth int) error {
	c, ok := Lookup(p.Command)
	switch {
	case !ok:
		return errors.New("no such command operator")
	case c.Use == Refused:
		return fmt.Errorf("not supported: %s", c.Note)
	}
	p.Command = c.Name
	if c.Name == coalesce {
		_, err := coalesced(p.Args, depth+1)
		return err
	}
	if c.check == nil {
		return nil
	}
	return c.check(p.Args)
}

// CheckJSON checks a JSON format: nested objects and lists, whose strings are formats.
func CheckJSON(format map[string]any) error {
	count := 0
	return checkJSON(format, 0, &count)
}

func checkJSON(v any, depth int, count *int) error {
	if *count++; depth > MaxJSONDepth || *count > MaxParts {
		return fmt.Errorf("a JSON format deeper than %d or of more than %d values", MaxJSONDepth, MaxParts)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			if err := checkJSON(item, depth+1, count); err != nil {
				return fmt.Errorf("%s: %w", abbreviate(key), err)
			}
		}
	case []any:
		for _, item := range v {
			if err := checkJSON(item, depth+1, count); err != nil {
				return err
			}
		}
	case string:
		_, err := Parse(v)
		return err
	}
	return nil
}
