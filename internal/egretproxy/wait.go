package egretproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// newWaitCommand is what a postStart hook calls, in a pod whose application waits for the
// proxy (pilot-agent's wait).
func newWaitCommand(errs *os.File) *cobra.Command {
	var url string
	var timeout, period, request int
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the proxy is ready",
		Long: `Asks for the proxy's readiness until it is ready. The exit status is 0 when it is, and 2
when it was not within the time.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(timeout)*time.Second)
			defer cancel()
			client := &http.Client{Timeout: time.Duration(request) * time.Millisecond}
			return waitReady(ctx, client, url, time.Duration(max(period, 1))*time.Millisecond)
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "http://localhost:15021/healthz/ready", "`address` of the readiness")
	f.IntVar(&timeout, "timeoutSeconds", 60, "`seconds` that are waited at most")
	f.IntVar(&period, "periodMillis", 500, "`milliseconds` between questions")
	f.IntVar(&request, "requestTimeoutMillis", 500, "`milliseconds` for one answer")
	cmd.SetErr(errs)
	return cmd
}

// waitReady asks until the answer is 200, or ctx ends: then it says what the last answer was.
func waitReady(ctx context.Context, client *http.Client, url string, period time.Duration) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		err := isReady(ctx, client, url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy is not ready: %w", err)
		case <-tick.C:
		}
	}
}

func isReady(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}
