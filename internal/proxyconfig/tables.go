package proxyconfig

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

func printRoutes(out io.Writer, list []*routev3.RouteConfiguration, verbose bool) {
	if !verbose {
		fmt.Fprintln(out, "NAME\tVIRTUAL HOSTS")
		for _, rc := range list {
			fmt.Fprintf(out, "%s\t%d\n", rc.GetName(), len(rc.GetVirtualHosts()))
		}
		return
	}
	fmt.Fprintln(out, "NAME\tVHOST NAME\tDOMAINS\tMATCH\tVIRTUAL SERVICE")
	for _, rc := range list {
		for _, vh := range rc.GetVirtualHosts() {
			for _, r := range vh.GetRoutes() {
				if r.GetRoute().GetCluster() == "PassthroughCluster" {
					continue
				}
				fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", rc.GetName(), vh.GetName(), domains(vh.GetDomains()), routeMatch(r.GetMatch()), madeFrom(r.GetMetadata()))
			}
			if len(vh.GetRoutes()) == 0 {
				fmt.Fprintf(out, "%s\t%s\t%s\t/*\t404\n", rc.GetName(), vh.GetName(), domains(vh.GetDomains()))
			}
		}
	}
}

// domains are the first two without ports, and how many more there are. Short forms of a
// service's name stand for its long ones.
func domains(all []string) string {
	if len(all) == 1 {
		return all[0]
	}
	known := map[string]bool{}
	for _, d := range all {
		known[d] = true
	}
	var names []string
	for _, d := range all {
		short, isLong := strings.CutSuffix(d, ".svc.cluster.local")
		if !isLong {
			short, isLong = strings.CutSuffix(d, ".svc")
		}
		hasPort := strings.Contains(d, ":") && !strings.HasSuffix(d, "]")
		if !hasPort && !(isLong && known[short]) {
			names = append(names, d)
		}
	}
	const shown = 2
	if len(names) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return strings.Join(names, ", ")
}

func routeMatch(m *routev3.RouteMatch) string {
	var parts []string
	if m.GetPrefix() != "" {
		parts = append(parts, m.GetPrefix()+"*")
	}
	if m.GetPathSeparatedPrefix() != "" {
		parts = append(parts, "PathPrefix:"+m.GetPathSeparatedPrefix())
	}
	if m.GetPath() != "" {
		parts = append(parts, m.GetPath())
	}
	if m.GetSafeRegex() != nil {
		parts = append(parts, "regex "+m.GetSafeRegex().GetRegex())
	}
	return strings.Join(parts, " ")
}

// madeFrom is "name.namespace" of the Istio object that something was made from, by the
// path that is in its metadata: /apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME.
func madeFrom(m *corev3.Metadata) string {
	path := m.GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
	if path == "" {
		return ""
	}
	if parts := strings.Split(path, "/"); len(parts) == 8 && parts[1] == "apis" && parts[4] == "namespaces" {
		return parts[7] + "." + parts[5]
	}
	return "<unknown>"
}

func printClusters(out io.Writer, list []*clusterv3.Cluster) {
	fmt.Fprintln(out, "SERVICE FQDN\tPORT\tSUBSET\tDIRECTION\tTYPE\tDESTINATION RULE")
	for _, c := range list {
		direction, port, subset, host := clusterParts(c.GetName())
		kind := c.GetType().String()
		if c.GetClusterType() != nil {
			kind = c.GetClusterType().GetName()
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", host, dash(port), dash(subset), dash(direction), kind, madeFrom(c.GetMetadata()))
	}
}

func dash(s string) string { return cmp.Or(s, "-") }

func printEndpoints(out io.Writer, list []*endpointv3.ClusterLoadAssignment) {
	fmt.Fprintln(out, "ENDPOINT\tSTATUS\tLOCALITY\tCLUSTER")
	for _, all := range list {
		for _, group := range all.GetEndpoints() {
			for _, e := range group.GetLbEndpoints() {
				fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", endpointAddress(e), e.GetHealthStatus(), locality(group.GetLocality()), all.GetClusterName())
			}
		}
	}
}

// locality is region/zone/subzone, as far as it is known.
func locality(l *corev3.Locality) string {
	return strings.TrimRight(l.GetRegion()+"/"+l.GetZone()+"/"+l.GetSubZone(), "/")
}

func printSecrets(out io.Writer, list []Secret, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(out, "No active or warming secrets found.")
		return
	}
	fmt.Fprintln(out, "RESOURCE NAME\tTYPE\tSTATUS\tVALID CERT\tSERIAL NUMBER\tNOT AFTER\tNOT BEFORE")
	for _, s := range list {
		text := s.GetTlsCertificate().GetCertificateChain().GetInlineBytes()
		if len(text) == 0 {
			text = s.GetValidationContext().GetTrustedCa().GetInlineBytes()
		}
		block, _ := pem.Decode(text)
		if block == nil {
			fmt.Fprintf(out, "%s\t\t%s\tfalse\t\t\t\n", s.GetName(), s.Status)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fmt.Fprintf(out, "%s\t\t%s\tfalse\t\t\t\n", s.GetName(), s.Status)
			continue
		}
		kind := "Cert Chain"
		if cert.IsCA {
			kind = "CA"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%t\t%x\t%s\t%s\n", s.GetName(), kind, s.Status, now.After(cert.NotBefore) && now.Before(cert.NotAfter),
			cert.SerialNumber, cert.NotAfter.Format(time.RFC3339), cert.NotBefore.Format(time.RFC3339))
	}
}

// printBootstrap prints which program the proxy is.
func printBootstrap(out io.Writer, node *corev3.Node) {
	fields := node.GetMetadata().GetFields()
	if v := fields["ISTIO_VERSION"].GetStringValue(); v != "" {
		fmt.Fprintf(out, "Istio Version:\t%s\n", v)
	}
	if v := fields["ISTIO_PROXY_SHA"].GetStringValue(); v != "" {
		fmt.Fprintf(out, "Istio Proxy Version:\t%s\n", v[strings.IndexByte(v, ':')+1:])
	}
	if build := node.GetUserAgentBuildVersion(); build != nil {
		v := build.GetVersion()
		text := fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
		for _, key := range []string{"revision.status", "build.type", "ssl.version"} {
			if part := build.GetMetadata().GetFields()[key].GetStringValue(); part != "" {
				text += "/" + part
			}
		}
		fmt.Fprintf(out, "Envoy Version:\t%s\n", text)
	} else if name := node.GetUserAgentName(); name != "" {
		fmt.Fprintf(out, "%s Version:\t%s\n", strings.ToUpper(name[:1])+name[1:], node.GetUserAgentVersion())
	}
}
