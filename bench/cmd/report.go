package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// caseReport is a case and what came out.
type caseReport struct {
	benchCase
	when     time.Time
	load     string // average, at the end
	rounds   int
	duration time.Duration
	targets  []string // in the order of the table
	samples  samples
	notes    []string
	skipped  string // why there is nothing
	failed   string // why it ended early; then no ratio counts
}

// label is the ratio's name without its figure.
func (r ratio) title(c string) string {
	peer := r.label
	if peer == "" {
		peer = r.peer
	}
	return fmt.Sprintf("%s%s %s/%s", c, r.suffix, egret, peer)
}

// lines are for machines.
func (c caseReport) lines() (out []string) {
	if c.skipped != "" {
		return []string{fmt.Sprintf("SKIP %s %s", c.name, c.skipped)}
	}
	if c.failed != "" {
		first, _, _ := strings.Cut(c.failed, "\n")
		return []string{fmt.Sprintf("FAIL %s %s", c.name, first)}
	}
	for _, r := range c.ratios {
		if v, ok := r.value(c.samples); ok {
			out = append(out, fmt.Sprintf("RATIO %s %.2f", r.title(c.name), v))
		}
	}
	return out
}

// rows are the table's: a head, and one for each target.
func (c caseReport) rows() [][]string {
	head := []string{"server"}
	for _, col := range c.columns {
		head = append(head, col.title)
	}
	out := [][]string{head}
	for _, name := range c.targets {
		row := []string{name}
		for _, col := range c.columns {
			cell := ""
			if v, ok := c.samples.of(name, col.key); ok {
				cell = strconv.FormatFloat(v, 'f', col.digits, 64)
			}
			row = append(row, cell)
		}
		out = append(out, row)
	}
	return out
}

// text is the table for a terminal, with the ratios and their goals.
func (c caseReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n", c.name, c.about)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range c.rows() {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	_ = w.Flush() // to memory
	for _, n := range c.judged() {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

// judged are the ratios with their goals, in words.
func (c caseReport) judged() (out []string) {
	for _, r := range c.ratios {
		v, ok := r.value(c.samples)
		if !ok {
			continue
		}
		line := fmt.Sprintf("%s %.2f", r.title(c.name), v)
		switch {
		case r.goal == 0:
		case v <= r.goal:
			line += fmt.Sprintf(" (goal %.2g: met)", r.goal)
		default:
			line += fmt.Sprintf(" (goal %.2g: missed)", r.goal)
		}
		out = append(out, line)
	}
	return out
}
