package resource

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

var update = flag.Bool("update", false, "write docs/envoy-fields.md")

// Each message and field of the table exists, and messages that a used field
// leads to are in the table.
func TestFieldTable(t *testing.T) {
	for name, fields := range fieldTable {
		d := descriptor(t, name)
		for field, use := range fields {
			f := d.Fields().ByName(field)
			if f == nil {
				t.Errorf("%s has no field %s", name, field)
				continue
			}
			if use != fieldUsed || f.IsMap() || f.Message() == nil || strings.HasPrefix(string(f.Message().FullName()), "google.protobuf.") {
				continue
			}
			if _, ok := fieldTable[f.Message().FullName()]; !ok {
				t.Errorf("%s.%s is used, but %s is not in the table", name, field, f.Message().FullName())
			}
		}
	}
}

func descriptor(t *testing.T, name protoreflect.FullName) protoreflect.MessageDescriptor {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return mt.Descriptor()
}

// docs/envoy-fields.md is made from the table (go test -update).
func TestFieldDocument(t *testing.T) {
	file := filepath.Join("..", "..", "..", "docs", "envoy-fields.md")
	want := fieldDocument(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s does not agree with the table; run: go test ./internal/data/resource -run TestFieldDocument -update", file)
	}
}

const documentHead = `# Envoy fields that Egret's proxy knows

Made by ` + "`go test ./internal/data/resource -run TestFieldDocument -update`" + ` from the decoder's own table; do not edit.

A resource is decoded field by field. A field that is set is **used**, **left out** because it is cosmetic for
Egret (statistics, tracing, buffer sizes, hints for balancing; it changes neither what is allowed nor where
bytes go), or **refused**: then the resource is answered with a NACK that names the resource, the path of the
field and its value, and the last good version stays in force. A refused listener that never was good refuses the
connections that would have come to it. What a newer Envoy adds is refused until it is in the table.

Left out, and worth knowing: the choice of curves and signature algorithms in TLS, and ` + "`accept_http_10`" + ` (HTTP/1.0 is always served).

Some used fields are refused for particular values:

* network filters: ` + "`http_connection_manager`" + ` and ` + "`tcp_proxy`" + `, one, at the end; others (RBAC, Lua, Wasm, rate limits, ...) are refused;
* tunnels (` + "`tunneling_config`" + `): CONNECT or POST over HTTP/1.1 or HTTP/2, as the cluster says, each over a connection of its own; the upstream has a minute to answer. Request IDs for them are refused;
* HTTP filters: the router, ` + "`fault` and `cors`" + `, with their configuration on routes and virtual hosts (not on weighted clusters and route configurations; a fault that request headers control is refused); RBAC, Lua, Wasm, external processing and all others are refused, also when they are marked optional;
* hedging (` + "`hedge_policy`" + `) is refused, and so are clusters, hosts and mirrors that a request header chooses, and matches on metadata, TLS or filter state;
* request headers by which a client tells Envoy's router how to treat its request: ` + "`x-envoy-upstream-rq-timeout-ms`" + ` and ` + "`x-envoy-upstream-rq-per-try-timeout-ms`" + ` count where they are shorter than the route's; those for retries, hedging and names of statistics do nothing. All are taken off;
* a request is sent again only where its body has at most 64 KiB and had gone upstream as a whole (or had not begun to);
* a request body is mirrored up to 64 KiB, once it is complete; larger ones, tunnels, and what is over 256 mirrored requests at a time are not. Mirrored requests are not in the access log;
* listener filters: ` + "`original_dst`, `tls_inspector`, `http_inspector`" + `;
* access logs: files, stdout and stderr are used; logs to services are left out, refusals are written to the proxy's own record in any case. Formats: docs/access-log.md. All filters are used; of a CEL filter the expression is refused where it has more than package ` + "`expression`" + ` knows (no arithmetic, no ` + "`?:`" + `, no attributes of metadata, filter state or source workloads). No request has a trace or metadata here, so filters on them let nothing through, or all;
* downstream TLS: certificates with keys from files or inline, or by Istio's secret name ` + "`file-cert:CERT~KEY`" + `, or by name from the agent (SDS by the cluster ` + "`sds-grpc`" + `) or the control plane (SDS over ADS); a context that needs anything else is accepted, and its filter chain refuses connections (` + "`not_supported`" + `); of ALPN names those that begin with ` + "`istio-`" + ` (and ` + "`istio`" + ` where HTTP is spoken) are not offered, and of cipher suites those that Go does not have or counts as insecure;
* upstream TLS: CA and certificates from files, inline CA, the system's roots, and Istio's secret names ` + "`file-root:system`, `file-root:PATH`, `file-cert:CERT~KEY`" + `, and names of secrets of the agent (SDS by the cluster ` + "`sds-grpc`" + `) and the control plane (SDS over ADS): a cluster or listener waits for those that are expected, 15 s for the control plane's; then it serves without, and what needs them fails; the ALPN name ` + "`istio-peer-exchange`" + ` is not offered. A context that needs anything else is accepted, and a connection that needs it fails with ` + "`upstream_tls_failed`" + `;
* secrets (SDS over ADS): a certificate with its key, or authorities (` + "`trusted_ca`" + `), inline; one that is removed stays as long as something needs it, and of one that is refused the last good version does, as in Envoy. Revocation lists, session ticket keys, generic secrets and other SDS servers are refused; a stapled OCSP response is left out. An expired certificate of the control plane's is shown, as Envoy does;
* ` + "`x-forwarded-client-cert`" + `: all modes; it tells what Envoy's does without the ` + "`By`" + ` key, with values quoted that could be read as more than one;
* ` + "`x-forwarded-for`" + ` tells who the client is only with ` + "`xff_num_trusted_hops`" + ` where ` + "`use_remote_address`" + ` is set; else it is the one that connected (Envoy believes the last address where ` + "`use_remote_address`" + ` is not set);
* load balancing: round robin, least request, random, ring hash, Maglev, and the one of ORIGINAL_DST; of ` + "`load_balancing_policy`" + ` the first policy that is known. Zone aware routing and bounded load (` + "`hash_balance_factor`" + `) are left out; a header that chooses the destination of ORIGINAL_DST (` + "`use_http_header`" + `) is refused, since it would let the workload go anywhere;
* dynamic forward proxy: cluster, HTTP filter and SNI filter; the name is resolved by the proxy where it is dialled, with the proxy's own cache and its bounds, and loopback, link-local and reserved addresses are refused. Sub-clusters, address filters and ` + "`host_rewrite`" + ` per route are refused;
* active health checks are refused: without them an endpoint that they would take out stays in, so bytes go elsewhere. Istio does not ask for them; outlier detection is there;
* subsets: labels that are strings, numbers or booleans;
* endpoints: socket addresses; from EDS and in static clusters IP addresses only;
* header edits: not of pseudo headers, ` + "`host`" + ` or headers that frame a message.

Filters that are left out by type:

`

func fieldDocument(t *testing.T) string {
	var b strings.Builder
	b.WriteString(documentHead)
	var filters []string
	for name := range cosmeticFilters {
		filters = append(filters, name)
	}
	slices.Sort(filters)
	for _, name := range filters {
		fmt.Fprintf(&b, "* `%s`\n", name)
	}
	b.WriteString("\n## Messages\n")
	var names []protoreflect.FullName
	for name := range fieldTable {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lists := map[fieldUse][]string{}
		fields := descriptor(t, name).Fields()
		for i := range fields.Len() {
			f := fields.Get(i).Name()
			use := fieldTable[name][f]
			if use == fieldWhole {
				use = fieldUsed
			}
			lists[use] = append(lists[use], string(f))
		}
		if len(lists) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n", name)
		for _, line := range []struct {
			title string
			use   fieldUse
		}{{"Used", fieldUsed}, {"Left out", fieldSkipped}, {"Refused", fieldRefused}} {
			if list := lists[line.use]; len(list) > 0 {
				fmt.Fprintf(&b, "* %s: %s\n", line.title, strings.Join(list, ", "))
			}
		}
	}
	return b.String()
}
