package cli

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// clientCommand is the lab's stand-in for curl on machines that have none: it knows
// "--head -L URL" and prints the headers as curl does.
func clientCommand(s Streams) *cobra.Command {
	var head, follow bool
	cmd := &cobra.Command{
		Use:    "client --head -L URL",
		Short:  "A small HTTP client for machines without curl",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			fmt.Fprintln(s.Out, "(egret's own client: curl is not installed)")
			method := http.MethodGet
			if head {
				method = http.MethodHead
			}
			return fetch(s, method, follow, args[0])
		},
	}
	cmd.Flags().BoolVar(&head, "head", false, "send HEAD")
	cmd.Flags().BoolVarP(&follow, "location", "L", false, "follow redirects")
	return cmd
}

func fetch(s Streams, method string, follow bool, url string) error {
	client := http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if !follow || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		return printHead(s, req.Response)
	}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return &exitError{code: 7, err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	return printHead(s, resp)
}

func printHead(s Streams, resp *http.Response) error {
	if _, err := fmt.Fprintf(s.Out, "%s %s\n", resp.Proto, resp.Status); err != nil {
		return err
	}
	if err := resp.Header.Write(s.Out); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out)
	return err
}
