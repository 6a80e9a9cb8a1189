package resource_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/file/filetest"
)

// secretOf is a Secret from proto JSON.
func secretOf(t testing.TB, text string) *anypb.Any {
	t.Helper()
	var m tlsv3.Secret
	if err := protojson.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(&m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A secret is taken as a whole or refused, with the reason, which has nothing of the key.
func TestSecret(t *testing.T) {
	authority := filetest.NewAuthority(t)
	inline := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		return `{"inlineString":` + string(quoted) + `}`
	}
	certFile, keyFile := authority.Issue(t, "a", time.Now().Add(time.Hour))
	_, otherFile := authority.Issue(t, "b", time.Now().Add(time.Hour))
	cert, key, other, ca := inline(certFile), inline(keyFile), inline(otherFile), inline(authority.CA)
	for name, c := range map[string]struct{ json, problem string }{
		"a certificate":            {`"tlsCertificate":{"certificateChain":` + cert + `,"privateKey":` + key + `}`, ""},
		"with an OCSP response":    {`"tlsCertificate":{"certificateChain":` + cert + `,"privateKey":` + key + `,"ocspStaple":{"inlineBytes":"eA=="}}`, ""},
		"authorities":              {`"validationContext":{"trustedCa":` + ca + `}`, ""},
		"another's key":            {`"tlsCertificate":{"certificateChain":` + cert + `,"privateKey":` + other + `}`, "tls_certificate.private_key: private key does not match public key"},
		"no key":                   {`"tlsCertificate":{"certificateChain":` + cert + `}`, "tls_certificate.private_key"},
		"a key from a file":        {`"tlsCertificate":{"certificateChain":` + cert + `,"privateKey":{"filename":"/k"}}`, "private_key: only inline"},
		"swapped":                  {`"tlsCertificate":{"certificateChain":` + key + `,"privateKey":` + cert + `}`, "certificate_chain: no certificate"},
		"a key behind a password":  {`"tlsCertificate":{"certificateChain":` + cert + `,"privateKey":` + key + `,"password":{"inlineString":"hunter2"}}`, "password"},
		"authorities that are not": {`"validationContext":{"trustedCa":{"inlineString":"x"}}`, "validation_context.trusted_ca: no certificate"},
		"a revocation list":        {`"validationContext":{"trustedCa":` + ca + `,"crl":{"inlineString":"x"}}`, "crl"},
		"names to match":           {`"validationContext":{"trustedCa":` + ca + `,"matchTypedSubjectAltNames":[{"sanType":"DNS","matcher":{"exact":"a"}}]}`, "only trusted_ca"},
		"ticket keys":              {`"sessionTicketKeys":{"keys":[{"inlineString":"x"}]}`, "session_ticket_keys"},
		"nothing":                  {"", "a secret is"},
	} {
		s, err := (resource.Decoder{}).Secret(secretOf(t, strings.Replace(`{"name":"n",`+c.json+`}`, ",}", "}", 1)))
		if c.problem == "" {
			if err != nil || s.Name != "n" || (s.Certificate == nil) == (len(s.Authorities) == 0) {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v, want %q", name, err, c.problem)
		} else if strings.Contains(err.Error(), "PRIVATE") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the key is told: %v", name, err)
		}
	}
}
