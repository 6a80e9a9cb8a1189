package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/egret-mesh/egret/bench/results"
)

// updateResults replaces the tables of the cases that were measured, between their
// marks; those of other cases stay, and so does all text outside of marks. A case without
// marks is added at the end. The list of all ratios is that of the last run with all
// cases.
func updateResults(path, machine string, reports []caseReport) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(old)
	for _, r := range reports {
		text = results.Replace(text, r.name, r.markdown(machine))
	}
	if len(reports) == len(allCases()) {
		text = results.Replace(text, "ratios", ratiosMarkdown(machine, reports))
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// ratiosMarkdown is every line for machines, with the goals.
func ratiosMarkdown(machine string, reports []caseReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", machine)
	for _, r := range reports {
		if r.skipped != "" || r.failed != "" {
			fmt.Fprintf(&b, "    %s\n", strings.Join(r.lines(), "\n    "))
			continue
		}
		for _, line := range r.judged() {
			fmt.Fprintf(&b, "    RATIO %s\n", line)
		}
	}
	return b.String()
}

// markdown is a section of RESULTS.md.
func (c caseReport) markdown(machine string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", c.name)
	if c.skipped != "" {
		fmt.Fprintf(&b, "Not measured: %s.\n", c.skipped)
		return b.String()
	}
	if c.failed != "" {
		first, _, _ := strings.Cut(c.failed, "\n")
		fmt.Fprintf(&b, "Failed: %s.\n", first)
		return b.String()
	}
	fmt.Fprintf(&b, "%s. Medians of %d rounds of %v, %s.\n%s Load average at the end: %s.\n\n", c.about, c.rounds, c.duration,
		c.when.UTC().Format("15:04 UTC"), machine, c.load)
	for i, row := range c.rows() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "| --- |%s\n", strings.Repeat(" ---: |", len(row)-1))
		}
	}
	b.WriteString("\n")
	for _, line := range c.judged() {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	for _, n := range c.notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	return b.String()
}
