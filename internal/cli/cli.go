// Package cli is egret's command line: one file per command. A command reads its
// flags, calls the package that does the work, and prints; it decides nothing.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Streams are the standard streams of a command.
type Streams struct{ In, Out, Err *os.File }

// version is set by the linker; see the Makefile.
var version = ""

// exitError ends the program with a status. Without err nothing more is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs the command line of a program that was called by that name, egret or istioctl, and
// returns the exit status.
func Main(program string, args []string, s Streams) int {
	if program != istioctl {
		program = "egret"
	}
	err := execute(program, args, s)
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitUsage, err: err}
	}
	if exit.err != nil {
		fmt.Fprintf(s.Err, "%s: %v\n", program, exit.err)
	}
	return exit.code
}

func execute(program string, args []string, s Streams) error {
	if forCluster(args, setting{program: program, kubeconfig: haveKubeconfig()}) {
		return executeCluster(program, args)
	}
	root := &cobra.Command{
		Use:   program,
		Short: "Egress control for workloads, with Istio's API",
		Long: `Egret decides what a workload may call, through which gate, and records who did.

Istio's objects (ServiceEntry, Gateway, VirtualService, DestinationRule, Sidecar,
MeshConfig) say what may leave; everything else is refused, with the reason.

The exit status is 0 when all is well, 1 when the answer is no (explain: refused;
analyze: errors; lab: another result), 2 when the command line or a path is wrong.
That of run is the command's, see egret run --help.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.Version = Version()
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, "%v", err) })
	root.AddCommand(runCommand(s), labCommand(s), explainCommand(s), analyzeCommand(s), bootstrapCommand(s), proxyConfigCommand(s), proxyStatusCommand(s), versionCommand(s),
		clientCommand(s), worldKeeperCommand(s))
	root.AddGroup(&cobra.Group{ID: "cluster", Title: "On a cluster:"})
	root.AddCommand(clusterOnly(program)...)
	return root.Execute()
}

// exitUsage is the exit status for a command line that cannot be understood, or names
// what cannot be read. For run it is exitEgretFailed, as 2 may be the command's own.
const exitUsage = 2

// usageError is about the command line of cmd, and names the help.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	code := exitUsage
	if cmd.Name() == "run" {
		code = exitEgretFailed
	}
	return &exitError{code: code, err: fmt.Errorf(format+" (see %s --help)", append(args, cmd.CommandPath())...)}
}

// oneArgument wants what says so, exactly once.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(cmd, "%s wants one %s, not %d", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

func versionCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(s.Out, versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("egret %s (%s, %s/%s)\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Version of the program.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// outputFlag adds -o, which takes "text" or "json".
func outputFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVarP(to, "output", "o", "text", "output format: text or json")
}

// CheckOutput refuses a format that outputFlag does not take.
func CheckOutput(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("unknown output format %q: text or json", format)
	}
	return nil
}

// PrintJSON prints what -o json asks for: indented, and URLs as they are.
func PrintJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
