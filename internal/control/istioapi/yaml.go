package istioapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds nesting; Istio's deepest field is about 12 levels down.
const maxDepth = 64

// chunk is one YAML document (or several, divided by "..."), and the number of
// lines before it.
type chunk struct {
	text []byte
	skip int
}

// split divides a file at its "---" lines, so that a syntax error in one document
// leaves the others readable. A "---" at the start of a line always ends a document
// (YAML 1.2.2, section 9.1.2), so no scalar is cut.
func split(data []byte) []chunk {
	var out []chunk
	start, line, startLine := 0, 0, 0
	for at := 0; at < len(data); {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		if isSeparator(data[at:end]) && at > start {
			if hasContent(data[start:at]) {
				out = append(out, chunk{data[start:at], startLine})
			}
			start, startLine = at, line
		}
		at = end
		line++
	}
	if hasContent(data[start:]) {
		out = append(out, chunk{data[start:], startLine})
	}
	return out
}

func isSeparator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// hasContent is false for text of only blank lines, comments, directives and separators.
func hasContent(text []byte) bool {
	for line := range bytes.Lines(text) {
		if isSeparator(line) {
			line = line[3:]
		}
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return true
		}
	}
	return false
}

// parse gives the documents of a chunk; on a syntax error those before it.
func (d *decoder) parse(c chunk) []*yaml.Node {
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			line, text := syntaxError(err.Error(), c.text)
			d.report(Error, CodeSyntax, "", line+c.skip, "not valid YAML: %s%s", text, tabHint(c.text, line))
			return docs
		}
		if len(node.Content) == 1 && node.Content[0].Tag != "!!null" {
			docs = append(docs, node.Content[0])
		}
	}
}

var (
	yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	// parserError matches the messages for which the library counts lines from 0.
	parserError   = regexp.MustCompile(`^(did not find expected (<|node content|',' or|key|'-' indicator)|found (duplicate %|incompatible|undefined tag))`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// syntaxError takes the line (from 1, in the chunk) out of the library's message.
func syntaxError(message string, chunk []byte) (line int, text string) {
	m := yamlErrorLine.FindStringSubmatch(message)
	if m == nil {
		return 1, message
	}
	text = message[len(m[0]):]
	line, err := strconv.Atoi(m[1])
	if err != nil {
		line = 1
	} else if parserError.MatchString(text) {
		line++
	}
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("the alias *%s has no anchor &%s before it in this document", m[1], m[1])
		if before, _, ok := bytes.Cut(chunk, []byte("*"+m[1])); ok {
			line = bytes.Count(before, []byte("\n")) + 1
		}
	}
	return line, text
}

func tabHint(text []byte, line int) string {
	n := 1
	for l := range bytes.Lines(text) {
		if n >= line && bytes.HasPrefix(bytes.TrimLeft(l, " "), []byte("\t")) {
			return " (line is indented with a tab; YAML allows only spaces)"
		}
		if n++; n > line+1 {
			break
		}
	}
	return ""
}

// field is one entry of a mapping.
type field struct {
	name  string
	key   *yaml.Node
	value *yaml.Node // aliases resolved
}

// visit counts a node against the budget, which bounds what aliases expand to.
func (d *decoder) visit(n *yaml.Node, path string, depth int) bool {
	d.budget--
	switch {
	case d.budget > 0 && depth <= maxDepth:
		return true
	case depth > maxDepth:
		d.fail(CodeTooLarge, path, n, "is nested more than %d levels deep", maxDepth)
	case !d.exhausted:
		d.exhausted = true
		d.fail(CodeTooLarge, path, n, "the file's YAML aliases expand to too much")
	}
	return false
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields lists a mapping's entries with "<<" merged in; ok is false (and told) when
// n is not a mapping. Duplicate keys are told.
func (d *decoder) fields(n *yaml.Node, path string, depth int) (out []field, ok bool) {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		d.fail(CodeWrongType, path, n, "must be a mapping (name: value), not %s", describe(n))
		return nil, false
	}
	if !d.visit(n, path, depth) {
		return nil, false
	}
	seen := make(map[string]int, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := deref(n.Content[i]), n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(CodeWrongType, path, key, "a key must be a plain word, not %s", describe(key))
			continue
		}
		if key.Tag == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if first, dup := seen[key.Value]; dup {
			d.fail(CodeDuplicateKey, join(path, key.Value), key, "is written twice (first on line %d)", first)
			continue
		}
		seen[key.Value] = d.line(key)
		out = append(out, field{key.Value, key, deref(value)})
	}
	for _, m := range merges {
		out = d.merge(out, seen, m, path, depth)
	}
	return out, true
}

// merge adds the entries of a "<<" value that are not there yet.
func (d *decoder) merge(out []field, seen map[string]int, m *yaml.Node, path string, depth int) []field {
	m = deref(m)
	sources := []*yaml.Node{m}
	if m.Kind == yaml.SequenceNode {
		sources = m.Content
	}
	for _, s := range sources {
		merged, _ := d.fields(s, path, depth+1)
		for _, f := range merged {
			if _, dup := seen[f.name]; !dup {
				seen[f.name] = d.line(f.key)
				out = append(out, f)
			}
		}
	}
	return out
}

// find looks for a key without telling anything.
func find(n *yaml.Node, key string) *yaml.Node {
	n = deref(n)
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return deref(n.Content[i+1])
			}
		}
	}
	return nil
}

func findString(n *yaml.Node, keys ...string) string {
	for _, k := range keys {
		if n = find(n, k); n == nil {
			return ""
		}
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe says what a value is, for messages.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind != yaml.ScalarNode:
		return "a YAML alias"
	}
	value := n.Value
	if len(value) > 40 {
		value = value[:40] + "..."
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "the boolean " + value
	case "!!int", "!!float":
		return "the number " + value
	case "!!str", "!!timestamp":
		return fmt.Sprintf("the string %q", value)
	}
	return fmt.Sprintf("a %s", n.Tag)
}

// join makes the path of a key in the mapping at path.
func join(path, key string) string {
	plain := key != "" && !strings.ContainsAny(key, `.[]"`)
	switch {
	case !plain:
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
