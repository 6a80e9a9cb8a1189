package cluster

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/charts"
	"github.com/egret-mesh/egret/internal/cli"
	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

// request is what install, upgrade, verify-install and manifest generate have in common.
type request struct {
	files, sets []string
	revision    string
	force       bool
}

func (r *request) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&r.files, "filename", "f", nil, "`path` of an IstioOperator YAML file, \"-\" is standard input; may be repeated, later ones win")
	f.StringArrayVarP(&r.sets, "set", "s", nil, "`PATH=VALUE` of an IstioOperator's spec, as meshConfig.accessLogFile=/dev/stdout or values.global.hub=...; may be repeated")
	f.StringVarP(&r.revision, "revision", "r", "", "`name` of the control plane, where several are installed")
	f.BoolVar(&r.force, "force", false, "go on with settings that are not known; they have no effect")
}

// plan reads the files and decides what to install.
func (r *request) plan(ctx context.Context, in io.Reader) (*install.Plan, []install.Rendered, error) {
	var files []install.File
	for _, name := range r.files {
		data, err := readFile(name, in)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, install.File{Name: name, Data: data})
	}
	p, err := install.NewPlan(install.Request{Charts: charts.Files(), Files: files, Sets: r.sets, Revision: r.revision, Version: cli.Version(), Force: r.force})
	if err != nil {
		return nil, nil, err
	}
	all, err := install.Render(ctx, p)
	return p, all, err
}

func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}

type installFlags struct {
	request
	yes, dryRun bool
	timeout     time.Duration
}

func installCommand(f *flags) *cobra.Command {
	var o installFlags
	cmd := &cobra.Command{
		Use: "install [flags]", Short: "Install Egret on a cluster, or reconfigure it",
		Long: `Applies a profile (default, demo, minimal, empty) with the settings of -f and --set, and waits
until everything is ready. What an earlier install had and this one has not is removed.
Settings that are not known are refused.`,
		Example: fmt.Sprintf("  %s install --set profile=demo --set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY", f.name),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runInstall(cmd.Context(), f, o, "install")
		},
	}
	o.addFlags(cmd)
	o.addInstallFlags(cmd)
	return cmd
}

func (o *installFlags) addInstallFlags(cmd *cobra.Command) {
	p := cmd.Flags()
	p.BoolVarP(&o.yes, "skip-confirmation", "y", false, "do not ask")
	p.BoolVar(&o.dryRun, "dry-run", false, "let the API server judge what would be applied, and change nothing")
	p.DurationVar(&o.timeout, "readiness-timeout", 5*time.Minute, "how long to wait for each part to be ready")
}

func upgradeCommand(f *flags) *cobra.Command {
	var o installFlags
	cmd := &cobra.Command{
		Use: "upgrade [flags]", Short: "Bring an installation to the version of this program",
		Long: `Does what install does, where there is an installation of the same revision. The settings are
those of -f and --set, as at the install.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runInstall(cmd.Context(), f, o, "upgrade")
		},
	}
	o.addFlags(cmd)
	o.addInstallFlags(cmd)
	return cmd
}

func runInstall(ctx context.Context, f *flags, o installFlags, verb string) error {
	p, all, err := o.plan(ctx, f.streams.In)
	if err != nil {
		return err
	}
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	before, err := c.Installed(ctx)
	if err != nil {
		return err
	}
	revision := cmp.Or(p.Revision, "default")
	version := ""
	for _, b := range before {
		if b.Revision == revision && b.Namespace == p.Namespace {
			version = cmp.Or(b.Version, "unknown")
		}
	}
	if verb == "upgrade" && version == "" {
		return fmt.Errorf("there is no installation of revision %q in %s to upgrade; %s install makes one", revision, p.Namespace, f.name)
	}
	if err := tellMeshChanges(ctx, f, c, all); err != nil {
		return err
	}
	if !o.yes && !o.dryRun {
		question := fmt.Sprintf("This will install the Egret %s profile %q into the cluster. Proceed? (y/N) ", p.Version, p.Profile)
		if version != "" {
			question = fmt.Sprintf("This will bring the Egret %s of the cluster to %s, profile %q. Proceed? (y/N) ", version, p.Version, p.Profile)
		}
		if ok, err := confirm(f.streams, question); err != nil || !ok {
			return cmp.Or(err, errors.New("cancelled: nothing was changed (-y does not ask)"))
		}
	}
	options := install.Options{DryRun: o.dryRun, Timeout: o.timeout, Tell: progress(f.streams.Out)}
	if err := c.Install(ctx, p, all, options); err != nil {
		return err
	}
	if o.dryRun {
		_, err = fmt.Fprintln(f.streams.Out, "The API server takes all of it; nothing was changed.")
		return err
	}
	_, err = fmt.Fprintln(f.streams.Out, "✔ Installation complete")
	return err
}

// tellMeshChanges prints what becomes of the MeshConfig of an earlier install.
func tellMeshChanges(ctx context.Context, f *flags, c *install.Cluster, all []install.Rendered) error {
	changes, err := c.MeshChanges(ctx, all)
	if err != nil || len(changes) == 0 {
		return err
	}
	_, err = fmt.Fprintf(f.streams.Out, "The cluster's MeshConfig will change:\n  %s\n", strings.Join(changes, "\n  "))
	return err
}

// confirm asks on the terminal.
func confirm(s cli.Streams, question string) (bool, error) {
	if _, err := fmt.Fprint(s.Out, question); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(io.LimitReader(s.In, 100)).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// progress prints each step of an install on a line.
func progress(out io.Writer) func(install.Progress) {
	return func(p install.Progress) {
		line := ""
		switch p.Stage {
		case install.Waiting:
			line = fmt.Sprintf("  %s: %s", p.Release, p.Detail)
		case install.Done:
			line = fmt.Sprintf("✔ %s", p.Release)
		case install.Pruning:
			if p.Detail != "" {
				line = fmt.Sprintf("  removed, as it is not part of this any more: %s", p.Detail)
			}
		case install.Applying:
			line = fmt.Sprintf("- %s ...", p.Release)
		}
		if line != "" {
			fmt.Fprintln(out, line)
		}
	}
}

func manifestCommand(f *flags) *cobra.Command {
	var r request
	cmd := &cobra.Command{Use: "manifest", Short: "Print what would be installed"}
	generate := &cobra.Command{
		Use: "generate [flags]", Short: "Print the objects that install would apply, as YAML; no cluster is asked",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, all, err := r.plan(cmd.Context(), f.streams.In)
			if err != nil {
				return err
			}
			text, err := install.Manifest(all)
			if err != nil {
				return err
			}
			_, err = f.streams.Out.Write(text)
			return err
		},
	}
	r.addFlags(generate)
	cmd.AddCommand(generate)
	return cmd
}
