package proxyconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/egret-mesh/egret/internal/anyjson"
)

// Kinds are what can be printed, in the order of "all".
var kinds = []string{"bootstrap", "clusters", "listeners", "routes", "secrets", "endpoints"}

// Kinds are the words for what Print prints.
func Kinds() []string { return append(slices.Clone(kinds), "all") }

// Options of Print.
type Options struct {
	// Format is "short" (istioctl's table), "json" or "yaml".
	Format string
	// Verbose: a line for each match, not only for each listener or route configuration.
	Verbose bool
	Now     time.Time // for whether certificates are valid
}

// Print prints one kind of resource, or "all". Its errors are about the kind, the format
// or the writer.
func Print(out io.Writer, d *Dump, kind string, o Options) error {
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("unknown kind %q", kind)
	}
	switch o.Format {
	case "short":
		return printTables(out, d, kind, o)
	case "json", "yaml":
		text, err := d.json(kind)
		if err != nil {
			return err
		}
		if o.Format == "yaml" {
			if text, err = yaml.JSONToYAML(text); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(out, string(bytes.TrimSpace(text)))
		return err
	}
	return fmt.Errorf("unknown output format %q: json, yaml or short", o.Format)
}

func printTables(out io.Writer, d *Dump, kind string, o Options) error {
	for i, k := range kinds {
		if kind != k && kind != "all" {
			continue
		}
		if kind == "all" && i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		padding := 5 // istioctl's
		if k == "listeners" || k == "bootstrap" {
			padding = 1
		}
		table := tabwriter.NewWriter(out, 0, 8, padding, ' ', 0)
		switch k {
		case "bootstrap":
			printBootstrap(table, d.Bootstrap.GetNode())
		case "clusters":
			printClusters(table, d.Clusters)
		case "listeners":
			printListeners(table, d.Listeners, o.Verbose)
		case "routes":
			printRoutes(table, d.Routes, o.Verbose)
		case "secrets":
			printSecrets(table, d.Secrets, o.Now)
		case "endpoints":
			printEndpoints(table, d.Endpoints)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// json is a list of resources in lowerCamelCase, for the bootstrap the one, and for "all"
// an object of them by kind.
func (d *Dump) json(kind string) ([]byte, error) {
	one := func(kind string) (any, error) {
		switch kind {
		case "bootstrap":
			if d.Bootstrap == nil {
				return nil, nil
			}
			text, err := anyjson.MarshalCamel(d.Bootstrap)
			return json.RawMessage(text), err
		case "clusters":
			return rawList(d.Clusters)
		case "listeners":
			return rawList(d.Listeners)
		case "routes":
			return rawList(d.Routes)
		case "endpoints":
			return rawList(d.Endpoints)
		}
		return rawList(d.Secrets)
	}
	var value any
	var err error
	if kind != "all" {
		value, err = one(kind)
	} else {
		all := map[string]any{}
		for _, k := range kinds {
			if all[k], err = one(k); err != nil {
				break
			}
		}
		value = all
	}
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	err = e.Encode(value)
	return out.Bytes(), err
}

func rawList[M proto.Message](list []M) ([]json.RawMessage, error) {
	out := []json.RawMessage{}
	for _, m := range list {
		text, err := anyjson.MarshalCamel(m)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}
