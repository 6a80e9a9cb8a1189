package expression

import (
	"cmp"
	"regexp"
	"strings"
	"unicode/utf8"
)

// combine makes a binary operation.
func (p *parser) combine(op token, left, right node) (node, error) {
	switch op.text {
	case "&&", "||":
		if left.kind == Bool && right.kind == Bool {
			return logical(left, right, OfBool(op.text == "||")), nil
		}
	case "in":
		return p.in(op, left, right)
	case "+", "-", "*", "/", "%":
		return node{}, p.fail(op.at, "the operator %s is not supported", op.text)
	default:
		ordered := left.kind == Int || left.kind == String || left.kind == Duration
		equality := op.text == "==" || op.text == "!="
		if left.kind == right.kind && (ordered || equality && left.kind == Bool) {
			return compare(op.text, left, right), nil
		}
	}
	return node{}, p.fail(op.at, "%s between a %s and a %s", op.text, left.kind, right.kind)
}

// logical: what decides, decides, also where the other side fails (CEL's && and ||).
func logical(left, right node, decides Value) node {
	return node{kind: Bool, eval: func(a Attributes) Value {
		l := left.eval(a)
		if l == decides {
			return l
		}
		r := right.eval(a)
		if r == decides || l.kind == Bool {
			return r
		}
		return l
	}}
}

func compare(op string, left, right node) node {
	holds := map[string]func(int) bool{
		"==": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
		"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
		">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
	}[op]
	return node{kind: Bool, eval: func(a Attributes) Value {
		l, r := left.eval(a), right.eval(a)
		if l.kind == missing || r.kind == missing {
			return Value{}
		}
		return OfBool(holds(cmp.Or(cmp.Compare(l.n, r.n), cmp.Compare(l.s, r.s))))
	}}
}

// in is "value in list" and "name in headers".
func (p *parser) in(op token, left, right node) (node, error) {
	switch {
	case right.kind == Headers && left.kind == String && left.constant != nil:
		h := headerOf(right.path, left.constant.s)
		return node{kind: Bool, eval: func(a Attributes) Value { return OfBool(h.eval(a).kind != missing) }}, nil
	case right.kind == List && (len(right.list) == 0 || right.list[0].kind == left.kind):
		list := right.list
		return node{kind: Bool, eval: func(a Attributes) Value {
			v := left.eval(a)
			if v.kind == missing {
				return v
			}
			for _, item := range list {
				if v == item {
					return OfBool(true)
				}
			}
			return OfBool(false)
		}}, nil
	}
	return node{}, p.fail(op.at, "in between a %s and a %s", left.kind, right.kind)
}

// method is a function on a string.
func (p *parser) method(t token, on node, args []node) (node, error) {
	if on.kind != String {
		return node{}, p.fail(t.at, "the function %s() of a %s is not supported", t.text, on.kind)
	}
	if t.text == "size" && len(args) == 0 {
		return sizeOf(on), nil
	}
	if len(args) != 1 || args[0].kind != String {
		return node{}, p.fail(t.at, "the function %s() with these arguments is not supported", t.text)
	}
	with := args[0]
	test := map[string]func(s, part string) bool{
		"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix,
	}[t.text]
	if t.text == "matches" && with.constant != nil {
		re, err := regexp.Compile(with.constant.s) // RE2 as in CEL: linear time
		if err != nil {
			return node{}, p.fail(t.at, "%v", err)
		}
		test = func(s, _ string) bool { return re.MatchString(s) }
	}
	if test == nil {
		return node{}, p.fail(t.at, "the function %s() with these arguments is not supported", t.text)
	}
	return node{kind: Bool, eval: func(a Attributes) Value {
		s, part := on.eval(a), with.eval(a)
		if s.kind == missing || part.kind == missing {
			return Value{}
		}
		return OfBool(test(s.s, part.s))
	}}, nil
}

// sizeOf is the number of characters.
func sizeOf(n node) node {
	return node{kind: Int, eval: func(a Attributes) Value {
		v := n.eval(a)
		if v.kind == missing {
			return v
		}
		return OfInt(int64(utf8.RuneCountInString(v.s)))
	}}
}
