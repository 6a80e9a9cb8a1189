package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
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
			what := "everything of Egret and Istio, with all of Istio's objects"
			if !purge {
				what = fmt.Sprintf("the control plane of revision %q, and its gateways", revision)
			}
			if dry {
				_, err := fmt.Fprintf(f.streams.Out, "Would remove %s.\n", what)
				return err
			}
			if !yes {
				if ok, err := confirm(f.streams, fmt.Sprintf("This will remove %s from the cluster. Proceed? (y/N) ", what)); err != nil || !ok {
					return cmp.Or(err, errors.New("cancelled: nothing was changed (-y does not ask)"))
				}
			}
			var removed []string
			if purge {
				removed, err = c.Purge(cmd.Context(), f.istioNamespace)
			} else {
				removed, err = c.Uninstall(cmd.Context(), strings.TrimPrefix(revision, "default"))
			}
			for _, r := range removed {
				fmt.Fprintf(f.streams.Out, "  removed %s\n", r)
			}
			if err != nil {
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
