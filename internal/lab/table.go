package lab

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mark is what a cell of the lab's table says.
type Mark string

// Marks.
const (
	Allowed    Mark = "allowed"
	Blocked    Mark = "502"
	ViaGateway Mark = "via gateway"
	// Other is an outcome that the lab's table does not know.
	Other Mark = "other"
)

// Outcome is what was measured of one call.
type Outcome struct {
	// Statuses of the responses in order: redirects are followed.
	Statuses []int `json:"statuses"`
	ExitCode int   `json:"exit_code"`
	// GatewayLines are the new lines in the egress gateway's access log.
	GatewayLines int `json:"gateway_log_lines"`
}

// Mark reads the outcome: a last status of 200 is allowed, with lines in the
// gateway's log it came through the gateway; a single 502 is blocked.
func (o Outcome) Mark() Mark {
	switch {
	case o.ExitCode != 0 || len(o.Statuses) == 0:
		return Other
	case slices.Equal(o.Statuses, []int{502}) && o.GatewayLines == 0:
		return Blocked
	case o.Statuses[len(o.Statuses)-1] == 200 && o.GatewayLines > 0:
		return ViaGateway
	case o.Statuses[len(o.Statuses)-1] == 200:
		return Allowed
	}
	return Other
}

// Cell is one measured cell.
type Cell struct {
	Want Mark    `json:"want"`
	Got  Outcome `json:"got"`
}

// OK reports whether the cell is the lab's.
func (c Cell) OK() bool { return c.Got.Mark() == c.Want }

// String is the cell as the lab writes it, with what was expected where it differs.
func (c Cell) String() string {
	text := map[Mark]string{
		Allowed:    "✔ Allowed",
		Blocked:    "❌ 502",
		ViaGateway: "✔ Routed via Gateway",
		Other:      fmt.Sprintf("? statuses %v, exit status %d", c.Got.Statuses, c.Got.ExitCode),
	}
	s := text[c.Got.Mark()]
	if !c.OK() {
		s += " (DIFFERS: the lab says " + text[c.Want] + ")"
	}
	return s
}

// Row is one scenario of the table.
type Row struct {
	Scenario  string `json:"scenario"`
	Wikipedia Cell   `json:"wikipedia"`
	Google    Cell   `json:"google"`
	Reason    string `json:"reason"`
}

// FormatTable prints rows as the lab does.
func FormatTable(rows []Row) string {
	lines := [][]string{{"Scenario", "Wikipedia", "Google", "Reason"}}
	for _, r := range rows {
		lines = append(lines, []string{r.Scenario, r.Wikipedia.String(), r.Google.String(), r.Reason})
	}
	widths := make([]int, 4)
	for _, l := range lines {
		for i, c := range l {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, l := range lines {
		for i, c := range l {
			b.WriteString("| " + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)) + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				b.WriteString("| " + strings.Repeat("-", w) + " ")
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}
