// Package proxystatus prints how far proxies are with the configuration that the control
// plane sends them, from what egretd tells at /debug/syncz, as istioctl proxy-status does
// from Istio's; and for what was refused which resource and in which words.
//
// It must not connect to anything.
package proxystatus

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/xds"
)

// maxSize of a status that is read, in bytes.
const maxSize = 256 << 20

// columns are the types that are told, by istioctl's names and in its order. Types of
// Egret's own follow.
var columns = []struct{ name, typeURL string }{
	{"CDS", xds.ClusterType}, {"LDS", xds.ListenerType}, {"EDS", xds.EndpointType}, {"RDS", xds.RouteType},
	{"NDS", xds.NameTableType}, {"VHDS", xds.VirtualHostType}, {"FCDS", xds.FilterChainType},
}

// Read reads the JSON of /debug/syncz.
func Read(in io.Reader) ([]discovery.SyncStatus, error) {
	var all []discovery.SyncStatus
	if err := json.NewDecoder(io.LimitReader(in, maxSize)).Decode(&all); err != nil {
		return nil, fmt.Errorf("not the status of proxies: %w", err)
	}
	return all, nil
}

// Word is how far a proxy is with one type: NOT SENT, SYNCED, STALE (an answer is missing)
// or ERROR (something is refused).
func Word(t *discovery.TypeStatus) string {
	switch {
	case t == nil:
		return "NOT SENT"
	case len(t.Refused) > 0 || t.Nack != "":
		return "ERROR"
	case t.Sent == "":
		return "NOT SENT"
	case len(t.Pending) > 0 || t.Sent != t.Acked && t.Acked != "":
		return "STALE"
	case t.Acked == "":
		return "STALE (Never Acknowledged)"
	}
	return "SYNCED"
}

func typeOf(s *discovery.SyncStatus, typeURL string) *discovery.TypeStatus {
	for i := range s.Types {
		if s.Types[i].TypeURL == typeURL {
			return &s.Types[i]
		}
	}
	return nil
}

// Print prints the table, and below it what is refused. bad reports that something is.
func Print(out io.Writer, all []discovery.SyncStatus) (bad bool, err error) {
	table := tabwriter.NewWriter(out, 0, 8, 5, ' ', 0)
	names := []string{"NAME"}
	for _, c := range columns {
		names = append(names, c.name)
	}
	fmt.Fprintln(table, strings.Join(names, "\t"))
	var problems strings.Builder
	for i := range all {
		s := &all[i]
		cells := []string{name(s.Proxy)}
		for _, c := range columns {
			t := typeOf(s, c.typeURL)
			word := Word(t)
			cells = append(cells, word)
			if word == "ERROR" {
				fmt.Fprintf(&problems, "\n%s refuses %s %s\n", name(s.Proxy), c.name, strings.Join(t.Refused, ", "))
				for line := range strings.Lines(t.Nack) {
					fmt.Fprintf(&problems, "    %s\n", strings.TrimRight(line, "\n"))
				}
			}
		}
		if s.Error != "" {
			fmt.Fprintf(&problems, "\n%s gets nothing new: %s\n", name(s.Proxy), s.Error)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return false, err
	}
	_, err = io.WriteString(out, problems.String())
	return problems.Len() > 0, err
}

// name is the workload's name and namespace in Istio's ids of nodes
// ("sidecar~10.0.0.1~web.shop~shop.svc.cluster.local"); other ids as they are.
func name(id string) string {
	if parts := strings.Split(id, "~"); len(parts) == 4 && parts[2] != "" {
		return parts[2]
	}
	return id
}
