package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/host/sandbox"
	"github.com/egret-mesh/egret/internal/memory"
	"github.com/egret-mesh/egret/internal/standalone"
)

// exitEgretFailed is the exit status when egret itself fails, as env(1) and docker have
// it; 126 and 127 are a command that cannot be run or was not found.
const exitEgretFailed = 125

type runOptions struct {
	paths     []string
	workload  standalone.Workload
	accessLog string
	metrics   string
	expose    []string
	quiet     bool
	verbose   bool
}

func runCommand(s Streams) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command in the mesh",
		Long: `Runs a command in a network namespace that it cannot leave except through Egret's
proxy. Istio's objects, read from the files and folders of -f and watched, say what it
may call; without a MeshConfig everything else is refused (REGISTRY_ONLY).

The exit status is the command's. 125: egret itself failed; 126: the command cannot be
executed; 127: the command was not found.`,
		Example: `  egret run -- curl http://www.wikipedia.org
  egret run -f policy/ --access-log logs/ -- make test`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "no command: egret run [flags] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runRun(s, o, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	pathFlags(cmd, &o.paths, &o.workload)
	f.StringVar(&o.accessLog, "access-log", "", "`folder` for sidecar.log and istio-egressgateway.log")
	f.StringVar(&o.metrics, "metrics", "", "loopback `address:port` where /stats/prometheus tells the metrics of both proxies")
	f.StringArrayVar(&o.expose, "expose", nil, "`path` of a socket or folder of the machine (under /run, for instance) that the command may see; may be repeated")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not tell refused destinations on stderr")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell on stderr what egret does")
	return cmd
}

// pathFlags adds the flags that say which objects govern which workload.
func pathFlags(cmd *cobra.Command, paths *[]string, w *standalone.Workload) {
	cmd.Flags().StringArrayVarP(paths, "filename", "f", nil, "`path` of a file or folder of Istio YAML; may be repeated")
	workloadFlags(cmd, w)
}

// workloadFlags adds the flags that say who a workload is.
func workloadFlags(cmd *cobra.Command, w *standalone.Workload) {
	f := cmd.Flags()
	f.StringVarP(&w.Namespace, "namespace", "n", "default", "`namespace` of the workload")
	f.StringVar(&w.Name, "name", "workload", "`name` of the workload")
	f.StringToStringVarP(&w.Labels, "labels", "l", nil, "labels of the workload: `k=v,...`")
	f.Lookup("labels").DefValue = "" // none; it would be told as []
}

func runRun(s Streams, o runOptions, args []string) error {
	logger := slog.New(slog.DiscardHandler)
	if o.verbose {
		logger = slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if err := o.workload.Check(); err != nil {
		return &exitError{code: exitEgretFailed, err: err}
	}
	if o.accessLog != "" {
		dir, err := filepath.Abs(o.accessLog)
		if err != nil {
			return &exitError{code: exitEgretFailed, err: err}
		}
		o.accessLog = dir
	}
	dir, err := os.Getwd()
	if err != nil {
		return &exitError{code: exitEgretFailed, err: err}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // not set: nothing of it is hidden
	}
	status, err := standalone.Run(context.Background(), standalone.Options{
		Command: args, Paths: o.paths, Workload: o.workload, AccessLog: o.accessLog, Metrics: o.metrics,
		Env: os.Environ(), Dir: dir, Home: home,
		Expose: o.expose, Quiet: o.quiet, Logger: logger,
		Memory: memory.New(),
		Stdin:  s.In, Stdout: s.Out, Stderr: s.Err,
	})
	if err != nil {
		return runFailure(s, err)
	}
	if code := status.ShellCode(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// runFailure prints why the command did not run, and gives the exit status for it.
func runFailure(s Streams, err error) error {
	var problems *standalone.ProblemsError
	var command *sandbox.CommandError
	switch {
	case errors.As(err, &problems):
		fmt.Fprintln(s.Err, problems)
		return &exitError{code: exitEgretFailed, err: errors.New("nothing was started: mend the YAML above")}
	case errors.As(err, &command):
		return &exitError{code: command.ShellCode(), err: err}
	}
	return &exitError{code: exitEgretFailed, err: errors.New(strings.TrimSpace(sandbox.Diagnose(err)))}
}
