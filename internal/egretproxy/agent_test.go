package egretproxy

import (
	"log/slog"
	"slices"
	"testing"
)

func TestLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{
		"default:info": slog.LevelInfo, "default:debug,ads:error": slog.LevelDebug, "all:warn": slog.LevelWarn,
		"ads:debug": slog.LevelInfo, "error": slog.LevelError, "": slog.LevelInfo,
	} {
		if got := level(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// What an injected container passes to pilot-agent is taken; what means nothing is told.
func TestInjectedArguments(t *testing.T) {
	args := []string{"sidecar", "--domain", "default.svc.cluster.local", "--proxyLogLevel=warning", "--proxyComponentLogLevel=misc:error",
		"--log_output_level=default:info", "--stsPort", "15463"}
	cmd := newProxyCommand(nil, nil)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	if got := cmd.Flags().Args(); !slices.Equal(got, []string{"sidecar"}) {
		t.Errorf("arguments: %q", got)
	}
	if got := cmd.Flags().Lookup("domain").Value.String(); got != "default.svc.cluster.local" {
		t.Errorf("domain: %q", got)
	}
	got := unknownFlags(func(name string) bool { return cmd.Flags().Lookup(name) != nil }, args)
	if want := []string{"--proxyLogLevel", "--proxyComponentLogLevel", "--stsPort"}; !slices.Equal(got, want) {
		t.Errorf("left out: %q, want %q", got, want)
	}
}
