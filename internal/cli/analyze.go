package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/control/analyze"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/source"
)

func analyzeCommand(s Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "analyze PATH...",
		Short: "Check Istio YAML, as Istio would and beyond",
		Long: `Checks files and folders of Istio YAML, each object by itself and all together. Each
finding names file, line, object and field. Folders inside of a folder are not read.

The exit status is 1 when there is an error, or no object at all.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "no PATH: name the files and folders to check")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runAnalyze(s, output, args) },
	}
	outputFlag(cmd, &output)
	return cmd
}

// finding is a problem for machines.
type finding struct {
	Severity  string `json:"severity"`
	Code      string `json:"code"`
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message"`
}

func runAnalyze(s Streams, output string, paths []string) error {
	if err := CheckOutput(output); err != nil {
		return err
	}
	objects, problems, err := source.Read(paths)
	if err != nil {
		return err
	}
	problems = append(problems, analyze.Analyze(objects)...)
	sortProblems(problems)
	return Report(s, output, objects.Len(), problems)
}

// Report prints what was found in that many objects, as output says: text or json. Its error
// has the exit status 1: there are errors, or nothing was checked.
func Report(s Streams, output string, objects int, problems []istioapi.Problem) error {
	if err := CheckOutput(output); err != nil {
		return err
	}
	if err := printProblems(s, output, problems); err != nil {
		return err
	}
	count := map[istioapi.Severity]int{}
	for _, p := range problems {
		count[p.Severity]++
	}
	if n := count[istioapi.Error]; n > 0 {
		return &exitError{code: 1, err: fmt.Errorf("%s, %s", plural(n, "error"), plural(count[istioapi.Warning], "warning"))}
	}
	if objects == 0 {
		return &exitError{code: 1, err: errors.New("nothing was checked: there is no Istio object in what was given")}
	}
	if output == "text" && count[istioapi.Warning] == 0 {
		_, err := fmt.Fprintf(s.Out, "No problem found in %s.\n", plural(objects, "object"))
		return err
	}
	return nil
}

// plural is "1 error", "2 errors".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// sortProblems orders by place, so that a file is read from top to bottom.
func sortProblems(problems []istioapi.Problem) {
	slices.SortStableFunc(problems, func(a, b istioapi.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

func printProblems(s Streams, output string, problems []istioapi.Problem) error {
	if output == "json" {
		findings := make([]finding, 0, len(problems))
		for _, p := range problems {
			findings = append(findings, finding{
				Severity: p.Severity.String(), Code: p.Code, File: p.File, Line: p.Line,
				Kind: p.Object.Kind, Namespace: p.Object.Namespace, Name: p.Object.Name,
				Field: p.Field, Message: p.Message,
			})
		}
		return PrintJSON(s.Out, findings)
	}
	var errs []error
	for _, p := range problems {
		_, err := fmt.Fprintln(s.Out, p)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
