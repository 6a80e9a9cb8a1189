package expression

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// node is a part that can be evaluated.
type node struct {
	kind Kind
	eval func(Attributes) Value
	// constant: the value is known; path: it is (the beginning of) an attribute's name,
	// "" else; list: of kind List.
	constant *Value
	path     string
	list     []Value
}

type parser struct {
	lexer
	token token
	nodes int
}

func (p *parser) advance() { p.token = p.next() }

func (p *parser) is(op string) bool { return p.token.kind == opToken && p.token.text == op }

// take goes on behind op when it is next.
func (p *parser) take(op string) bool {
	if p.is(op) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) fail(at int, format string, args ...any) error {
	if p.err != nil {
		return p.err
	}
	return fmt.Errorf("at %d: %s", at+1, fmt.Sprintf(format, args...))
}

func (p *parser) unexpected() error {
	switch p.token.kind {
	case endToken:
		return p.fail(p.token.at, "the expression is not complete")
	case stringToken:
		return p.fail(p.token.at, "a string is not expected here")
	case intToken:
		return p.fail(p.token.at, "a number is not expected here")
	}
	return p.fail(p.token.at, "%q is not expected here", p.token.text)
}

// levels are the binary operators by how strong they bind, the weakest first.
var levels = [][]string{{"||"}, {"&&"}, {"<", "<=", ">", ">=", "==", "!=", "in"}, {"+", "-"}, {"*", "/", "%"}}

// expression reads a whole expression. The conditional operator is not supported.
func (p *parser) expression(depth int) (node, error) {
	n, err := p.binary(0, depth)
	if err == nil && p.is("?") {
		return node{}, p.fail(p.token.at, "the operator ?: is not supported")
	}
	return n, err
}

func (p *parser) binary(level, depth int) (node, error) {
	if level == len(levels) {
		return p.unary(depth)
	}
	left, err := p.binary(level+1, depth)
	if err != nil {
		return node{}, err
	}
	for (p.token.kind == opToken || p.token.kind == nameToken) && slices.Contains(levels[level], p.token.text) {
		op := p.token
		p.advance()
		right, err := p.binary(level+1, depth)
		if err != nil {
			return node{}, err
		}
		if left, err = p.combine(op, left, right); err != nil {
			return node{}, err
		}
	}
	return left, nil
}

func (p *parser) unary(depth int) (node, error) {
	if p.nodes++; depth > maxDepth || p.nodes > maxNodes {
		return node{}, errTooBig
	}
	at := p.token.at
	switch {
	case p.take("!"):
		n, err := p.unary(depth + 1)
		if err != nil {
			return node{}, err
		}
		if n.kind != Bool {
			return node{}, p.fail(at, "! of a %s", n.kind)
		}
		return node{kind: Bool, eval: func(a Attributes) Value {
			v := n.eval(a)
			if v.kind == Bool {
				v.n = 1 - v.n
			}
			return v
		}}, nil
	case p.take("-"):
		n, err := p.unary(depth + 1)
		if err != nil {
			return node{}, err
		}
		if n.constant == nil || n.kind != Int {
			return node{}, p.fail(at, "- is supported before whole numbers only")
		}
		return constant(OfInt(-n.constant.n)), nil
	}
	n, err := p.primary(depth)
	for err == nil && (p.is(".") || p.is("[")) {
		n, err = p.selector(n, depth)
	}
	if err == nil && n.kind == missing {
		return node{}, p.fail(at, "%q is not an attribute that is known%s", n.path, nearest(n.path))
	}
	return n, err
}

func constant(v Value) node {
	return node{kind: v.kind, constant: &v, eval: func(Attributes) Value { return v }}
}

func (p *parser) primary(depth int) (node, error) {
	t := p.token
	p.advance()
	switch t.kind {
	case intToken:
		return constant(OfInt(t.n)), nil
	case stringToken:
		return constant(OfString(t.text)), nil
	case nameToken:
		return p.name(t, depth)
	case opToken:
		switch t.text {
		case "(":
			n, err := p.expression(depth + 1)
			if err == nil && !p.take(")") {
				err = p.unexpected()
			}
			return n, err
		case "[":
			return p.listOf(depth)
		}
	}
	p.token = t
	return node{}, p.unexpected()
}

// name reads a word, a call, or the beginning of an attribute.
func (p *parser) name(t token, depth int) (node, error) {
	switch t.text {
	case "true", "false":
		return constant(OfBool(t.text == "true")), nil
	case "in", "null", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
		"package", "namespace", "return", "var", "void", "while":
		return node{}, p.fail(t.at, "%q is not expected here", t.text)
	}
	if p.take("(") {
		args, err := p.arguments(depth, t.text == "has")
		if err != nil {
			return node{}, err
		}
		return p.call(t, args)
	}
	return node{path: t.text}, nil
}

// arguments reads up to the closing parenthesis. Paths may be anything where bare.
func (p *parser) arguments(depth int, bare bool) ([]node, error) {
	var args []node
	for !p.take(")") {
		if len(args) > 0 && !p.take(",") {
			return nil, p.unexpected()
		}
		at := p.token.at
		n, err := p.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		if bare && n.path == "" {
			return nil, p.fail(at, "has() takes an attribute")
		}
		args = append(args, n)
	}
	return args, nil
}

func (p *parser) listOf(depth int) (node, error) {
	at := p.token.at
	n := node{kind: List}
	for !p.take("]") {
		if len(n.list) > 0 && !p.take(",") {
			return n, p.unexpected()
		}
		item, err := p.expression(depth + 1)
		if err != nil {
			return n, err
		}
		if item.constant == nil || len(n.list) > 0 && n.list[0].kind != item.kind {
			return n, p.fail(at, "a list is supported of constants of one type only")
		}
		n.list = append(n.list, *item.constant)
	}
	n.eval = func(Attributes) Value { return Value{} }
	return n, nil
}

// selector reads ".name", ".name(arguments)" or "[key]" behind n.
func (p *parser) selector(n node, depth int) (node, error) {
	at := p.token.at
	if p.take("[") {
		key, err := p.expression(depth + 1)
		if err == nil && !p.take("]") {
			err = p.unexpected()
		}
		if err != nil {
			return node{}, err
		}
		if n.kind != Headers || key.constant == nil || key.kind != String {
			return node{}, p.fail(at, "[] is supported on headers, with a constant name")
		}
		return headerOf(n.path, key.constant.s), nil
	}
	p.advance()
	field := p.token
	if field.kind != nameToken {
		return node{}, p.unexpected()
	}
	p.advance()
	if p.take("(") {
		args, err := p.arguments(depth, false)
		if err != nil {
			return node{}, err
		}
		return p.method(field, n, args)
	}
	switch {
	case n.kind == Headers:
		return headerOf(n.path, field.text), nil
	case n.kind != missing:
		return node{}, p.fail(at, "a %s has no field %q", n.kind, field.text)
	}
	name := n.path + "." + field.text
	kind, ok := known[name]
	if !ok {
		return node{}, p.fail(at, "%q is not an attribute that is known%s", name, nearest(name))
	}
	return node{kind: kind, path: name, eval: func(a Attributes) Value { return a.Attribute(name) }}, nil
}

func headerOf(of, name string) node {
	name = strings.ToLower(name)
	return node{kind: String, path: of + "[]", eval: func(a Attributes) Value {
		if s, ok := a.Header(of, name); ok {
			return OfString(s)
		}
		return Value{}
	}}
}

// nearest lists the attributes with the same beginning.
func nearest(name string) string {
	group, _, _ := strings.Cut(name, ".")
	var same []string
	for k := range known {
		if strings.HasPrefix(k, group+".") {
			same = append(same, k)
		}
	}
	if len(same) == 0 {
		return ""
	}
	slices.Sort(same)
	return "; known are " + strings.Join(same, ", ")
}

// call is a function with its arguments: has(), size() and duration().
func (p *parser) call(t token, args []node) (node, error) {
	if len(args) != 1 {
		return node{}, p.fail(t.at, "%s() with %d arguments", t.text, len(args))
	}
	arg := args[0]
	switch {
	case t.text == "has":
		return node{kind: Bool, eval: func(a Attributes) Value { return OfBool(arg.eval(a).kind != missing) }}, nil
	case t.text == "size" && arg.kind == String:
		return sizeOf(arg), nil
	case t.text == "duration" && arg.kind == String && arg.constant != nil:
		d, err := time.ParseDuration(arg.constant.s)
		if err != nil {
			return node{}, p.fail(t.at, "%q is not a duration", arg.constant.s)
		}
		return constant(OfDuration(int64(d))), nil
	}
	return node{}, p.fail(t.at, "the function %s() of a %s is not supported", t.text, arg.kind)
}
