package cli

import (
	"github.com/spf13/cobra"

	"github.com/egret-mesh/egret/internal/proxystatus"
)

func proxyStatusCommand(s Streams) *cobra.Command {
	var address, format string
	cmd := &cobra.Command{
		Use:     "proxy-status [flags]",
		Aliases: []string{"ps"},
		Short:   "Print how far each proxy is with its configuration",
		Long: `Asks egretd about the proxies that are connected: for each type of resource SYNCED (all
that was sent is acknowledged), STALE (an answer is missing), NOT SENT, or ERROR; then
which resources a proxy refuses, and in which words.

The exit status is 1 when something is refused.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := CheckOutput(format); err != nil {
				return err
			}
			in, err := fetchFrom(address, "/debug/syncz")
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			all, err := proxystatus.Read(in)
			if err != nil {
				return err
			}
			if format == "json" {
				return PrintJSON(s.Out, all)
			}
			bad, err := proxystatus.Print(s.Out, all)
			if err == nil && bad {
				return &exitError{code: 1}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&address, "monitoring-address", "127.0.0.1:15014", "`host:port` where egretd tells of itself")
	outputFlag(cmd, &format)
	return cmd
}
