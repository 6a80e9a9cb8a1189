package istioapi

import (
	"errors"
	"fmt"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// What credentialName becomes in SDS (istio.io/istio/pilot/pkg/model/credentials).
const (
	// KubernetesSecret begins the name of a Secret in the namespace of the proxy.
	KubernetesSecret = "kubernetes://"
	// AuthoritiesSuffix is at the end of the names of authorities: those of the Secret
	// NAME-cacert, or else of NAME itself.
	AuthoritiesSuffix = "-cacert"

	// meshCredential is the certificate that the proxy has of the mesh.
	meshCredential = "builtin://"
	// maxSecretName bounds the name of a Secret, in bytes (RFC 1123, DNS subdomain).
	maxSecretName = 253
)

// OfMesh says that a credentialName is the certificate that the proxy has of the mesh.
func OfMesh(credential string) bool { return credential == meshCredential }

// CertificateName is the name in SDS of a credentialName's certificate with its key.
func CertificateName(credential string) string {
	return KubernetesSecret + strings.TrimPrefix(credential, KubernetesSecret)
}

// AuthoritiesName is the name in SDS of a credentialName's authorities.
func AuthoritiesName(credential string) string {
	return CertificateName(credential) + AuthoritiesSuffix
}

// checkCredential says whether a credentialName can be used.
func checkCredential(name string) error {
	if OfMesh(name) {
		return nil
	}
	plain := strings.TrimPrefix(name, KubernetesSecret)
	if scheme, _, ok := strings.Cut(plain, "://"); ok {
		return fmt.Errorf("the scheme %.30q is not supported; give the name of a Secret in the proxy's namespace", scheme+"://")
	}
	if strings.Contains(plain, "/") {
		return errors.New("a Secret of another namespace is given to nobody; it must be in the namespace of the proxy")
	}
	return CheckSecretName(plain)
}

// CheckSecretName takes what can be the name of an object of Kubernetes (RFC 1123, DNS
// subdomain).
func CheckSecretName(s string) error {
	if s == "" || len(s) > maxSecretName {
		return fmt.Errorf("a name has 1 to %d bytes, not %d", maxSecretName, len(s))
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return fmt.Errorf("%.60q has the byte %q, which no name has", s, c)
		}
	}
	return nil
}

// Credentials are the Secrets that have a server's certificates; with any, files do not count.
func Credentials(tls *networking.ServerTLSSettings) []string {
	if names := tls.GetCredentialNames(); len(names) > 0 {
		return names
	}
	if name := tls.GetCredentialName(); name != "" {
		return []string{name}
	}
	return nil
}

// AuthoritiesCredential is the Secret that has the authorities for a server's clients; "" is
// none.
func AuthoritiesCredential(tls *networking.ServerTLSSettings) string {
	if name := tls.GetCaCertCredentialName(); name != "" {
		return name
	}
	if names := Credentials(tls); len(names) > 0 {
		return names[0]
	}
	return ""
}

// serverCredentials checks the names of Secrets. What is in those is found out when a gateway
// asks for them.
func (c *checker) serverCredentials(tls *networking.ServerTLSSettings, at string) {
	files := tls.ServerCertificate != "" || tls.PrivateKey != "" || len(tls.TlsCertificates) > 0
	switch {
	case tls.CredentialName != "" && len(tls.CredentialNames) > 0:
		c.fail(CodeConflict, at+".credentialNames", "cannot be set together with credentialName")
	case files && len(Credentials(tls)) > 0:
		c.warn(CodeNoEffect, at, "certificates from files have no effect with credentialName")
	}
	c.credential(tls.CredentialName, at+".credentialName")
	for i, name := range tls.CredentialNames {
		if name == "" {
			c.fail(CodeMissing, index(at+".credentialNames", i), "the name of a Secret is empty")
		}
		c.credential(name, index(at+".credentialNames", i))
	}
	c.credential(tls.CaCertCredentialName, at+".caCertCredentialName")
}

// clientCredential checks the Secret of a DestinationRule.
func (c *checker) clientCredential(t *networking.ClientTLSSettings, at string) {
	if t.CredentialName == "" {
		return
	}
	c.credential(t.CredentialName, at+".credentialName")
	if t.ClientCertificate != "" || t.PrivateKey != "" || t.CaCertificates != "" {
		c.fail(CodeConflict, at, "the certificates are those of credentialName: clientCertificate, privateKey and caCertificates must be left out")
	}
	if rule, ok := c.object.(*DestinationRule); ok && len(rule.Spec.GetWorkloadSelector().GetMatchLabels()) == 0 {
		c.info(CodeNoEffect, at+".credentialName", "only gateways begin this TLS; sidecars do so only with a workloadSelector, as in Istio")
	}
}

// credential checks the name of a Secret; "" is none.
func (c *checker) credential(name, at string) {
	if name == "" {
		return
	}
	if err := checkCredential(name); err != nil {
		c.fail(CodeInvalid, at, "%v", err)
	}
}
