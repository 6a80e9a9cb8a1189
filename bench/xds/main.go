// Command xds measures the control plane: many simulated proxies connect to an egretd of
// its own process, files of its policy are changed, and it is measured how long it takes
// until the last proxy has answered, what CPU time and memory it costs, and what is sent.
// It needs no network but loopback.
//
// It must not judge: it prints what it measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/egret-mesh/egret/bench/results"
)

type options struct {
	egretd string
	write  string
	change int
	names  int
	files  int
	cases  string
}

// measured is one case: how many entries and proxies, of which form.
type measured struct {
	entries, proxies int
	onDemand         bool
}

func (m measured) form() string {
	if m.onDemand {
		return "on demand"
	}
	return "everything"
}

func main() {
	var o options
	flag.StringVar(&o.egretd, "egretd", "bin/egretd", "the program that is measured")
	flag.StringVar(&o.write, "write", "", "`file` whose table is replaced (bench/RESULTS.md)")
	flag.IntVar(&o.change, "changes", 50, "changes of each kind")
	flag.IntVar(&o.names, "names", 300, "hosts that a proxy on demand asks for")
	flag.IntVar(&o.files, "files", 100, "files that the entries are in")
	flag.StringVar(&o.cases, "cases", "1000x100,1000x1000,10000x100,10000x1000,1000x100full,10000x20full",
		"ENTRIESxPROXIES; with full at its end the proxies take everything, as a stock Envoy does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "xds:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	cases, err := parseCases(o.cases)
	if err != nil {
		return err
	}
	table := tableHead
	fmt.Print(table)
	for _, m := range cases {
		row, err := measure(ctx, o, m)
		if err != nil {
			return fmt.Errorf("%d entries, %d proxies, %s: %w", m.entries, m.proxies, m.form(), err)
		}
		table += row
		fmt.Print(row)
	}
	if o.write == "" {
		return nil
	}
	old, err := os.ReadFile(o.write)
	if err != nil {
		return err
	}
	table = fmt.Sprintf("%s. %d processors, %s. Load average at the end: %s. %d names of each proxy on demand, %d files, %d changes of each kind.\n\n%s",
		time.Now().Format("2 January 2006"), runtime.NumCPU(), runtime.Version(), load(), o.names, o.files, o.change, table)
	return os.WriteFile(o.write, []byte(results.Replace(string(old), "xds-scale", table)), 0o644)
}

func parseCases(text string) ([]measured, error) {
	var out []measured
	for word := range strings.SplitSeq(text, ",") {
		var m measured
		numbers, full := strings.CutSuffix(word, "full")
		m.onDemand = !full
		if _, err := fmt.Sscanf(numbers, "%dx%d", &m.entries, &m.proxies); err != nil {
			return nil, fmt.Errorf("case %q: %w", word, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
