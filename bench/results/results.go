// Package results keeps tables in a Markdown file between marks, so that measuring again
// replaces them and leaves all other text alone.
//
// It must not know what is measured.
package results

import (
	"fmt"
	"strings"
)

// Replace puts block between the marks of a name; without marks it is added at the end.
func Replace(text, name, block string) string {
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return strings.TrimRight(text, "\n") + "\n\n" + begin + block + end
	}
	return before + begin + block + end + after
}
