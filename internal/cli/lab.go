package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/host/sandbox"
	"github.com/egret-mesh/egret/internal/lab"
	"github.com/egret-mesh/egret/internal/lab/internet"
	"github.com/egret-mesh/egret/internal/lab/world"
)

type labOptions struct {
	internet string
	output   string
	shell    bool
	inWorld  bool
}

func labCommand(s Streams) *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Perform the egress lab on this machine",
		Long: `Performs Istio's egress lab: a call without a sidecar, REGISTRY_ONLY, a ServiceEntry,
an egress gateway. Each command is typed as it stands and its real output is shown; the
table at the end is measured. The exit status is 1 when any cell differs from the lab's.
125: the machine does not let egret make the namespaces that it needs.

By default the calls go to a simulated internet in a network namespace, so that the lab
needs no network and no root.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(cmd, "%s takes no arguments, but there is %q", cmd.CommandPath(), args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runLab(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.internet, "internet", "simulated", "simulated, or real: this machine's own network")
	f.BoolVar(&o.shell, "shell", false, "leave a shell open in the finished lab")
	f.BoolVar(&o.inWorld, "in-world", false, "the lab already runs in its world")
	_ = f.MarkHidden("in-world") // fails only for a flag that does not exist
	outputFlag(cmd, &o.output)
	return cmd
}

func runLab(ctx context.Context, s Streams, o labOptions) error {
	if err := CheckOutput(o.output); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	switch {
	case o.internet != "simulated" && o.internet != "real":
		return fmt.Errorf("unknown --internet %q: simulated or real", o.internet)
	case o.internet == "simulated" && !o.inWorld:
		argv := []string{self, "lab", "--in-world", "--output", o.output}
		if o.shell {
			argv = append(argv, "--shell")
		}
		code, err := world.Run(argv)
		if err != nil {
			return &exitError{code: exitEgretFailed, err: errors.New(sandbox.Diagnose(err))}
		}
		if code != 0 {
			return &exitError{code: code}
		}
		return nil
	}
	return performLab(ctx, s, o, self)
}

func performLab(ctx context.Context, s Streams, o labOptions, self string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "egret-lab-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := io.Writer(s.Out)
	if o.output == "json" {
		out = nil
	}
	report, err := lab.Run(ctx, lab.Options{Egret: self, Dir: dir, Out: out})
	if o.output == "json" && report != nil {
		if err := PrintJSON(s.Out, report); err != nil {
			return err
		}
	}
	if err != nil {
		return &exitError{code: 1, err: fmt.Errorf("the lab stopped: %w", err)}
	}
	if o.shell {
		stop() // the shell has the terminal's signals now
		labShell(s, dir)
	}
	if !report.OK {
		return &exitError{code: 1, err: errors.New("the table differs from the lab's")}
	}
	return nil
}

// labShell leaves the user in the finished lab. How the shell ends says nothing
// about the lab.
func labShell(s Streams, dir string) {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "sh"
	}
	fmt.Fprintf(s.Out, `
You are in the finished lab, in %s. Try
  curl --head -L http://www.google.com
      without a sidecar
  egret run -f policy -- curl --head -L http://www.google.com
      in the mesh
  egret run -f policy --access-log logs -- %s &
      a command in the mesh that goes on; edit policy/ meanwhile
  egret explain -f policy https://www.google.com
and leave with exit.
`, dir, "sh -c 'while sleep 2; do curl -sI http://www.google.com | head -1; done'")
	cmd := exec.Command(shell)
	cmd.Dir, cmd.Env = dir, lab.Environment(dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			fmt.Fprintf(s.Err, "egret: %v\n", err)
		}
	}
}

// worldKeeperCommand is how the lab's namespace is set up; see package world.
func worldKeeperCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:                world.KeeperArg,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			code, err := world.Keep(args, internet.Default())
			if err != nil {
				return &exitError{code: exitEgretFailed, err: errors.New(sandbox.Diagnose(err))}
			}
			if code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}
