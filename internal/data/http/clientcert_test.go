package http

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// shown is a session whose client has shown a certificate that says what it can to break
// out of the header.
func shown(t *testing.T) *credentials.Session {
	t.Helper()
	uri, err := url.Parse("spiffe://cluster.local/ns/a/sa/b")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := url.Parse("spiffe://cluster.local/ns/g/sa/g")
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{URIs: []*url.URL{gateway}}
	leaf := &x509.Certificate{Raw: []byte("leaf"), URIs: []*url.URL{uri, {Scheme: "x", Opaque: `a,By=spiffe://evil;Hash="0"`}},
		DNSNames: []string{"a.example", "b\r\nx-evil: 1"}, Subject: pkix.Name{CommonName: "a\" ;Hash=0,\r\nx-evil: 1", Organization: []string{"o"}}}
	return credentials.NewSession(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, {Raw: []byte("issuer")}}}, own)
}

// TestForwardedClientCert: a client is believed only about a certificate that it has
// shown, and its certificate cannot say more than its place in the header.
func TestForwardedClientCert(t *testing.T) {
	sum := sha256.Sum256([]byte("leaf"))
	hash := "By=spiffe://cluster.local/ns/g/sa/g;Hash=" + hex.EncodeToString(sum[:])
	inPEM := func(raw string) string {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(raw)}))
		return strings.NewReplacer("\n", "%0A", " ", "%20", "=", "%3D").Replace(text)
	}
	const forged = "By=spiffe://x;Hash=00"
	const subject = `;Subject="CN=a\" \;Hash=0\,??x-evil: 1,O=o"`
	const uris = `;URI=spiffe://cluster.local/ns/a/sa/b;URI="x:a,By=spiffe://evil;Hash=\"0\""`
	for name, c := range map[string]struct {
		mode    resource.ForwardClientCert
		details resource.ClientCertDetails
		plain   bool
		sent    string
		want    string
	}{
		"sanitized":                   {sent: forged, want: ""},
		"forwarded":                   {mode: resource.ClientCertForward, sent: forged, want: forged},
		"appended":                    {mode: resource.ClientCertAppend, sent: forged, want: forged + "," + hash},
		"appended to nothing":         {mode: resource.ClientCertAppend, want: hash},
		"set":                         {mode: resource.ClientCertSet, sent: forged, want: hash},
		"kept":                        {mode: resource.ClientCertAlwaysForward, plain: true, sent: forged, want: forged},
		"forwarded, none shown":       {mode: resource.ClientCertForward, plain: true, sent: forged, want: ""},
		"appended, none shown":        {mode: resource.ClientCertAppend, plain: true, sent: forged, want: ""},
		"set, none shown":             {mode: resource.ClientCertSet, plain: true, sent: forged, want: ""},
		"as gateways of Istio say it": {mode: resource.ClientCertSet, details: resource.ClientCertDetails{Cert: true, Subject: true, URI: true, DNS: true}, sent: forged, want: hash + `;Cert="` + inPEM("leaf") + `"` + subject + uris + `;DNS=a.example;DNS=b??x-evil: 1`},
		"chain":                       {mode: resource.ClientCertSet, details: resource.ClientCertDetails{Chain: true}, want: hash + `;Chain="` + inPEM("leaf") + inPEM("issuer") + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			o := answering(t, okHello)
			w := newWorld(t, o.addr)
			w.hcm.ForwardClientCert, w.hcm.ClientCertDetails = c.mode, c.details
			if !c.plain {
				w.tls.Store(shown(t))
			}
			w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
			var header []string
			if c.sent != "" {
				header = []string{"X-Forwarded-Client-Cert: " + c.sent}
			}
			w.send(get("/", append(header, "Connection: close")...))
			var got []string
			for line := range strings.SplitSeq(o.head(t), "\r\n") {
				if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "x-forwarded-client-cert") {
					got = append(got, value)
				} else if strings.EqualFold(name, "x-evil") {
					t.Errorf("broke out: %q", line)
				}
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestForwardingHeaders: via both ways, and the port that was called.
func TestForwardingHeaders(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.Via, w.hcm.AppendForwardedPort = "1.1 egret", true
	for _, edge := range []bool{false, true} {
		w.hcm.UseRemoteAddress = edge
		w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
		got := w.send(get("/", "Via: 1.0 fred", "X-Forwarded-Port: 99", "Connection: close"))
		if !hasLine(got, "via: 1.1 egret") {
			t.Errorf("response %q", got)
		}
		up := o.head(t)
		if port := map[bool]string{false: "99", true: "80"}[edge]; !hasLine(up, "x-forwarded-port: "+port) || !hasLine(up, "via: 1.1 egret") || !hasLine(up, "via: 1.0 fred") {
			t.Errorf("edge %v: %q", edge, up)
		}
	}
}
