package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/egret-mesh/egret/internal/format"
)

// jsonNode is a compiled value of a JSON format. Exactly one of its fields beside
// key is in use: a single operator keeps its type (numbers stay numbers, nothing is
// null), several parts make a string.
type jsonNode struct {
	key    string // `"name":` as it is printed, in objects
	raw    string // a literal, already JSON
	single *op
	parts  []op
	object []jsonNode
	list   []jsonNode
	shape  composite
}

type composite uint8

const (
	scalar composite = iota
	isObject
	isList
)

// compileJSON makes the tree of a JSON format. Keys are printed sorted, so that lines
// of one format look alike. As with text formats the result is always usable, and
// the error is the first thing that Envoy would refuse.
func compileJSON(m map[string]any) (jsonNode, error) {
	c := jsonCompiler{}
	n := c.node(m, 0)
	return n, c.err
}

type jsonCompiler struct {
	err   error
	count int
}

func (c *jsonCompiler) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *jsonCompiler) node(v any, depth int) jsonNode {
	c.count++
	if depth > format.MaxJSONDepth || c.count > format.MaxParts {
		c.fail(fmt.Errorf("access log JSON format: deeper than %d or more than %d values", format.MaxJSONDepth, format.MaxParts))
		return jsonNode{raw: "null"}
	}
	switch v := v.(type) {
	case map[string]any:
		return c.object(v, depth)
	case []any:
		n := jsonNode{shape: isList}
		for _, item := range v {
			n.list = append(n.list, c.node(item, depth+1))
		}
		return n
	case string:
		return c.scalar(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		c.fail(fmt.Errorf("access log JSON format: %w", err))
		raw = []byte("null")
	}
	return jsonNode{raw: string(raw)}
}

func (c *jsonCompiler) object(m map[string]any, depth int) jsonNode {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	n := jsonNode{shape: isObject}
	for _, k := range keys {
		child := c.node(m[k], depth+1)
		child.key = string(append(appendJSONString(nil, k), ':'))
		n.object = append(n.object, child)
	}
	return n
}

func (c *jsonCompiler) scalar(text string) jsonNode {
	ops, err := compileText(text)
	if err != nil {
		c.fail(err)
		return jsonNode{raw: "null"}
	}
	switch {
	case len(ops) == 0:
		return jsonNode{raw: `""`}
	case len(ops) == 1 && ops[0].from == fromLiteral:
		return jsonNode{raw: string(appendJSONString(nil, ops[0].text))}
	case len(ops) == 1:
		return jsonNode{single: &ops[0]}
	}
	return jsonNode{parts: ops}
}

// appendJSON prints the tree; omit leaves out object fields without a value (Envoy's
// omit_empty_values).
func (n *jsonNode) appendJSON(dst []byte, r *Recorder, e *Entry, omit bool) []byte {
	switch {
	case n.shape == isObject:
		return n.appendObject(dst, r, e, omit)
	case n.shape == isList:
		dst = append(dst, '[')
		for i := range n.list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = n.list[i].appendJSON(dst, r, e, omit)
		}
		return append(dst, ']')
	case n.single != nil:
		return n.single.value(r, e).appendJSON(dst, e, n.single)
	case n.parts != nil:
		return n.appendParts(dst, r, e)
	}
	return append(dst, n.raw...)
}

func (n *jsonNode) appendObject(dst []byte, r *Recorder, e *Entry, omit bool) []byte {
	dst = append(dst, '{')
	first := true
	for i := range n.object {
		child := &n.object[i]
		if omit && child.single != nil && child.single.value(r, e).kind == kindNone {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, child.key...)
		dst = child.appendJSON(dst, r, e, omit)
	}
	return append(dst, '}')
}

// appendParts prints a string of several parts; a part without a value is "-".
func (n *jsonNode) appendParts(dst []byte, r *Recorder, e *Entry) []byte {
	dst = append(dst, '"')
	for i := range n.parts {
		o := &n.parts[i]
		if o.from == fromLiteral {
			dst = appendJSONInner(dst, o.text)
			continue
		}
		v := o.value(r, e)
		switch {
		case v.kind == kindNone:
			dst = append(dst, '-')
		case v.kind == kindWord || v.kind == kindForeign:
			dst = appendJSONInner(dst, v.s)
		case v.isTime() && o.time != nil: // a custom format may hold anything
			start := len(dst)
			dst = v.appendPlain(dst, e, o)
			dst = appendJSONInner(dst[:start], string(dst[start:]))
		default:
			dst = v.appendPlain(dst, e, o)
		}
	}
	return append(dst, '"')
}

// appendJSON prints a typed value.
func (v value) appendJSON(dst []byte, e *Entry, o *op) []byte {
	switch v.kind {
	case kindNone:
		return append(dst, "null"...)
	case kindNumber:
		return strconv.AppendInt(dst, v.n, 10)
	case kindWord, kindForeign:
		return appendJSONString(dst, v.s)
	case kindStart, kindNow, kindSeconds: // a custom format may hold anything
		start := len(dst)
		dst = v.appendPlain(append(dst, '"'), e, o)
		if o.time == nil {
			return append(dst, '"')
		}
		return appendJSONString(dst[:start], string(dst[start+1:]))
	}
	dst = v.appendPlain(append(dst, '"'), e, o)
	return append(dst, '"')
}
