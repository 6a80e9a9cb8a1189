package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

func uninstallCommand(f *flags) *cobra.Command {
	var (
		revision        string
		purge, yes, dry bool
	)
	cmd := &cobra.Command{
		Use: "uninstall {--purge | --revision NAME} [flags]", Short: "Remove Egret from a cluster",
		Long: `Removes the control plane and the gateways of a revision (the one without a name is
"default"), or with --purge everything: all revisions, the custom resource definitions with
all of Istio's objects, and the namespace if install made it.

Sidecars stay in the pods that have them until those are made anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if purge == (revision != "") {
				return fmt.Errorf("say --purge or --revision NAME (see %s --help)", cmd.CommandPath())
			}
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			u := uninstall{c, f, revision, purge}
			what, err := u.what(cmd.Context())
			if err != nil {
				return err
			}
			if dry {
				fmt.Fprintf(f.streams.Out, "Would remove %s:\n", what)
				return u.run(cmd.Context(), true)
			}
			if !yes {
				if ok, err := confirm(f.streams, fmt.Sprintf("This will remove %s from the cluster. Proceed? (y/N) ", what)); err != nil || !ok {
					return cmp.Or(err, errors.New("cancelled: nothing was changed (-y does not ask)"))
				}
			}
			if err := u.run(cmd.Context(), false); err != nil {
				return err
			}
			_, err = fmt.Fprintln(f.streams.Out, "✔ Uninstall complete")
			return err
		},
	}
	p := cmd.Flags()
	p.StringVarP(&revision, "revision", "r", "", "`name` of the control plane")
	p.BoolVar(&purge, "purge", false, "remove everything")
	p.BoolVarP(&yes, "skip-confirmation", "y", false, "do not ask")
	p.BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// uninstall is one run of the command.
type uninstall struct {
	cluster  *install.Cluster
	flags    *flags
	revision string
	purge    bool
}

// what is removed, in words. The objects that people made are counted.
func (u uninstall) what(ctx context.Context) (string, error) {
	if !u.purge {
		return fmt.Sprintf("the control plane of revision %q, and its gateways", u.revision), nil
	}
	theirs, err := u.cluster.UserObjects(ctx)
	switch {
	case err != nil:
		return "", err
	case len(theirs) == 0:
		return "everything of Egret and Istio", nil
	}
	listed := strings.Join(theirs[:min(len(theirs), 10)], ", ")
	if len(theirs) > 10 {
		listed += ", ..."
	}
	return fmt.Sprintf("everything of Egret and Istio, with all objects of Istio's kinds, %d of them (%s)", len(theirs), listed), nil
}

func (u uninstall) run(ctx context.Context, dry bool) error {
	count := 0
	r := install.Removal{DryRun: dry, Tell: func(object string) {
		count++
		fmt.Fprintf(u.flags.streams.Out, "  %s %s\n", map[bool]string{true: "would remove", false: "removed"}[dry], object)
	}}
	if u.purge {
		return u.cluster.Purge(ctx, u.flags.istioNamespace, r)
	}
	revision := u.revision
	if revision == "default" {
		revision = ""
	}
	if err := u.cluster.Uninstall(ctx, revision, r); err != nil || count > 0 {
		return err
	}
	return u.nothing(ctx)
}

// nothing was found: the error says what there is.
func (u uninstall) nothing(ctx context.Context) error {
	found, err := u.cluster.Installed(ctx)
	if err != nil {
		return err
	}
	var revisions []string
	for _, f := range found {
		if f.Revision == u.revision && f.ManagedBy == "Helm" {
			return fmt.Errorf("revision %q was installed by Helm, and helm uninstall removes it", u.revision)
		}
		revisions = append(revisions, f.Revision)
	}
	return fmt.Errorf("there is no installation of revision %q; there is: %s", u.revision, cmp.Or(strings.Join(revisions, ", "), "none"))
}
