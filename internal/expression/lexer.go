package expression

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	endToken tokenKind = iota
	badToken
	nameToken
	intToken
	stringToken
	opToken
)

type token struct {
	kind tokenKind
	text string // a name, an operator, or the value of a string
	n    int64
	at   int
}

type lexer struct {
	text string
	pos  int
	err  error
}

// operators, the longer ones first.
var operators = []string{"&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "-", "+", "*", "/", "%", "(", ")", "[", "]", ".", ",", "?", ":"}

func (l *lexer) next() token {
	for l.pos < len(l.text) && strings.IndexByte(" \t\r\n\f", l.text[l.pos]) >= 0 {
		l.pos++
	}
	at := l.pos
	if at == len(l.text) {
		return token{kind: endToken, at: at}
	}
	switch c := l.text[at]; {
	case isLetter(c):
		for l.pos < len(l.text) && (isLetter(l.text[l.pos]) || isDigit(l.text[l.pos])) {
			l.pos++
		}
		return token{kind: nameToken, text: l.text[at:l.pos], at: at}
	case isDigit(c):
		return l.number(at)
	case c == '"' || c == '\'':
		return l.quoted(at, c)
	}
	for _, op := range operators {
		if strings.HasPrefix(l.text[at:], op) {
			l.pos += len(op)
			return token{kind: opToken, text: op, at: at}
		}
	}
	return l.bad(at, "%q has no meaning here", l.text[at:at+1])
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

func (l *lexer) bad(at int, format string, args ...any) token {
	if l.err == nil {
		l.err = fmt.Errorf("at %d: %s", at+1, fmt.Sprintf(format, args...))
	}
	l.pos = len(l.text)
	return token{kind: badToken, at: at}
}

func (l *lexer) number(at int) token {
	for l.pos < len(l.text) && (isLetter(l.text[l.pos]) || isDigit(l.text[l.pos])) {
		l.pos++
	}
	text := strings.TrimSuffix(l.text[at:l.pos], "u")
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || len(text) > 1 && text[0] == '0' && text[1] != 'x' || strings.Contains(text, "_") {
		return l.bad(at, "%q is not a whole number", text)
	}
	if l.pos+1 < len(l.text) && l.text[l.pos] == '.' && isDigit(l.text[l.pos+1]) {
		return l.bad(at, "only whole numbers are supported")
	}
	return token{kind: intToken, n: n, at: at}
}

// quoted reads a string with CEL's simple escapes.
func (l *lexer) quoted(at int, quote byte) token {
	if strings.HasPrefix(l.text[at:], strings.Repeat(string(quote), 3)) {
		return l.bad(at, "strings over several lines are not supported")
	}
	var b []byte
	for l.pos = at + 1; l.pos < len(l.text); l.pos++ {
		switch c := l.text[l.pos]; {
		case c == quote:
			l.pos++
			if !utf8.Valid(b) {
				return l.bad(at, "a string that is not UTF-8")
			}
			return token{kind: stringToken, text: string(b), at: at}
		case c == '\n' || c == '\r':
			return l.bad(at, "a string over several lines")
		case c == '\\' && l.pos+1 < len(l.text):
			l.pos++
			i := strings.IndexByte(`\"'`+"`?nrt", l.text[l.pos])
			if i < 0 {
				return l.bad(l.pos-1, "the escape \\%c is not supported", l.text[l.pos])
			}
			b = append(b, (`\"'` + "`?\n\r\t")[i])
		default:
			b = append(b, c)
		}
	}
	return l.bad(at, "a string without an end")
}
