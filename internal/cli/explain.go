package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/explain"
	"github.com/egret-mesh/egret/internal/standalone"
)

func explainCommand(s Streams) *cobra.Command {
	var (
		paths    []string
		workload standalone.Workload
		output   string
		asked    CallFlags
	)
	cmd := &cobra.Command{
		Use:   "explain [flags] URL|HOST:PORT",
		Short: "Say what would happen to a call, and why",
		Long: `Says what would happen to a call of the workload: verdict, reason, each hop (sidecar,
gateway), and the object that decided, with file and line, or the one that is missing. It
asks the proxy's own decision code, and calls nobody.

Of a pod of a cluster: egret explain pod/NAME URL (egret explain pod/NAME --help).

The exit status is 1 when the call would be refused,
or would fail as nothing can answer.`,
		Example: `  egret explain -f policy/ https://www.wikipedia.org
  egret explain -f policy/ -n build -l app=ci db.example.com:3306`,
		Args: oneArgument("URL or HOST:PORT"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := CheckOutput(output); err != nil {
				return err
			}
			if err := workload.Check(); err != nil {
				return err
			}
			call, err := asked.Call(args[0])
			if err != nil {
				return err
			}
			return runExplain(s, paths, workload, output, call)
		},
	}
	pathFlags(cmd, &paths, &workload)
	outputFlag(cmd, &output)
	asked.Register(cmd.Flags())
	return cmd
}

// CallFlags say more of a call than its URL does.
type CallFlags struct {
	method  string
	headers []string
}

// Register adds the flags.
func (f *CallFlags) Register(to *pflag.FlagSet) {
	to.StringVarP(&f.method, "request", "X", "GET", "`method` of the HTTP request")
	to.StringArrayVarP(&f.headers, "header", "H", nil, "header of the HTTP request: \"Name: value\"; may be repeated")
}

// Call is the one to a URL or HOST:PORT.
func (f *CallFlags) Call(to string) (explain.Call, error) {
	call, err := explain.ParseCall(to)
	if err != nil {
		return call, err
	}
	call.Method = f.method
	call.Headers, err = parseHeaders(f.headers)
	return call, err
}

// parseHeaders reads "Name: value", as curl has it.
func parseHeaders(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, h := range list {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
			return nil, fmt.Errorf("-H %q is not of the form \"Name: value\"", h)
		}
		value = strings.TrimSpace(value)
		if before, twice := out[name]; twice {
			value = before + "," + value
		}
		out[name] = value
	}
	return out, nil
}

func runExplain(s Streams, paths []string, w standalone.Workload, output string, call explain.Call) error {
	objects, problems, err := source.Read(paths)
	if err != nil {
		return err
	}
	bad := 0
	for _, p := range problems {
		if p.Severity == istioapi.Error {
			fmt.Fprintln(s.Err, p)
			bad++
		}
	}
	if bad > 0 {
		fmt.Fprintln(s.Err, "egret: the answer leaves out what has an error above; egret run would not start with it")
	}
	result, err := standalone.Explain(objects, w, call)
	if err != nil {
		return err
	}
	if err := PrintExplanation(s.Out, output, result, positions(objects)); err != nil {
		return err
	}
	if result.Verdict != "allowed" {
		return &exitError{code: 1}
	}
	return nil
}

// PrintExplanation prints it as output says, text or json, with the places of the objects in
// YAML that are known.
func PrintExplanation(out io.Writer, output string, r explain.Result, where map[resource.Object]istioapi.Position) error {
	if err := CheckOutput(output); err != nil {
		return err
	}
	if output == "json" {
		return printResultJSON(out, r, where)
	}
	return printResult(out, r, where)
}

// positions of objects in the YAML.
func positions(objects istioapi.Objects) map[resource.Object]istioapi.Position {
	where := map[resource.Object]istioapi.Position{}
	for o := range objects.All() {
		m := o.Common()
		where[resource.Object{Kind: m.Kind, Namespace: m.Namespace, Name: m.Name}] = m.Position
	}
	return where
}

func printResult(out io.Writer, r explain.Result, where map[resource.Object]istioapi.Position) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.Call, r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(&b, "reason: %s: %s\n", r.Reason, r.Detail)
	}
	if r.Hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", r.Hint)
	}
	for i, h := range r.Hops {
		fmt.Fprintf(&b, "\n%d. %s, called for %s: %s\n", i+1, h.Proxy, h.Destination, h.Action)
		field := func(name, value string) {
			if value != "" {
				fmt.Fprintf(&b, "   %-13s %s\n", name, value)
			}
		}
		field("listener", h.Listener)
		field("filter chain", h.FilterChain)
		field("virtual host", h.VirtualHost)
		field("route", h.Route)
		for _, c := range h.Clusters {
			field("cluster", c)
		}
		for _, e := range h.Endpoints {
			field("endpoint", e)
		}
		for _, n := range h.Notes {
			field("note", n)
		}
		for _, o := range h.Objects {
			line := o.String()
			if at, ok := where[o]; ok {
				line += " (" + at.String() + ")"
			}
			field("because of", line)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// objectJSON is an object with its place.
type objectJSON struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
}

type hopJSON struct {
	explain.Hop
	Objects []objectJSON `json:"objects"`
}

type resultJSON struct {
	explain.Result
	Hops []hopJSON `json:"hops"`
}

func printResultJSON(out io.Writer, r explain.Result, where map[resource.Object]istioapi.Position) error {
	full := resultJSON{Result: r, Hops: []hopJSON{}}
	for _, h := range r.Hops {
		hop := hopJSON{Hop: h, Objects: []objectJSON{}}
		for _, o := range h.Objects {
			at := where[o]
			hop.Objects = append(hop.Objects, objectJSON{o.Kind, o.Namespace, o.Name, at.File, at.Line})
		}
		full.Hops = append(full.Hops, hop)
	}
	return PrintJSON(out, full)
}
