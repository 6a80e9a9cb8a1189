package cluster

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/cli/cluster/install"
)

func verifyCommand(f *flags) *cobra.Command {
	var r request
	cmd := &cobra.Command{
		Use: "verify-install [flags]", Short: "Check that a cluster has what install applies, and that it is ready",
		Long: `Looks for each object that install with the same -f and --set would apply, compares it with
what is there, and looks whether Deployments are ready. It changes nothing. Without settings it
looks at what is installed.

The exit status is 1 when something is missing, differs, or is not ready.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			var results []install.Verdict
			if len(r.files)+len(r.sets) == 0 {
				results, err = c.VerifyInstalled(cmd.Context(), r.revision)
			} else {
				_, all, perr := r.plan(cmd.Context(), f.streams.In)
				if perr != nil {
					return perr
				}
				results, err = c.Verify(cmd.Context(), all)
			}
			if err != nil {
				return err
			}
			bad := 0
			for _, v := range results {
				mark := "✔"
				if v.Problem != "" {
					mark, bad = "✘", bad+1
				}
				fmt.Fprintf(f.streams.Out, "%s %s", mark, v.Object)
				if v.Problem != "" {
					fmt.Fprintf(f.streams.Out, ": %s", v.Problem)
				}
				fmt.Fprintln(f.streams.Out)
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d objects are not as they should be", bad, len(results))
			}
			if len(results) == 0 {
				return fmt.Errorf("nothing is installed; %s install does", f.name)
			}
			_, err = fmt.Fprintf(f.streams.Out, "%d objects are there, and ready\n", len(results))
			return err
		},
	}
	r.addFlags(cmd)
	return cmd
}
