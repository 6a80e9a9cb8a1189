package istioapi

import (
	networking "istio.io/api/networking/v1alpha3"
)

const gatewayTLSSupport = "supported are the modes PASSTHROUGH (routed by SNI, not decrypted), SIMPLE, MUTUAL and OPTIONAL_MUTUAL with certificates from files"

// EndsTLS reports whether a Gateway server ends TLS in a way that is supported: with
// certificates, and authorities for clients, from files or Secrets, or with those of the mesh.
func EndsTLS(tls *networking.ServerTLSSettings) bool {
	switch tls.GetMode() {
	case networking.ServerTLSSettings_SIMPLE:
	case networking.ServerTLSSettings_ISTIO_MUTUAL: // refused where there is no such identity
		return true
	case networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL:
		if tls.GetCaCertificates() == "" && AuthoritiesCredential(tls) == "" {
			return false
		}
	default:
		return false
	}
	fromFiles := tls.GetServerCertificate() != "" && tls.GetPrivateKey() != "" || len(tls.GetTlsCertificates()) > 0
	return (fromFiles || len(Credentials(tls)) > 0) &&
		tls.GetCaCrl() == "" && len(tls.GetVerifyCertificateSpki()) == 0 && len(tls.GetVerifyCertificateHash()) == 0 &&
		!tls.GetInsecureSkipVerify().GetValue()
}

func (c *checker) serverTLS(s *networking.Server, at string) {
	tls := s.Tls
	secure := isTLS(s.Port.Protocol)
	if tls == nil {
		if secure {
			c.fail(CodeMissing, at+".tls", "is required for %s; %s", s.Port.Protocol, gatewayTLSSupport)
		}
		return
	}
	at += ".tls"
	plain := tls.Mode == networking.ServerTLSSettings_PASSTHROUGH
	switch {
	case !secure && !isHTTP(s.Port.Protocol):
		c.fail(CodeConflict, at, "is not possible for %s", s.Port.Protocol)
	case !secure && !plain:
		c.fail(CodeConflict, at, "is not possible for plain %s", s.Port.Protocol)
	case !plain:
		c.serverCertificates(tls, at)
	}
	if tls.HttpsRedirect && !isHTTP(s.Port.Protocol) {
		c.fail(CodeConflict, at+".httpsRedirect", "is possible only for HTTP servers")
	}
	if plain && secure && (tls.ServerCertificate != "" || tls.PrivateKey != "" || tls.CaCertificates != "" || tls.CaCrl != "" ||
		tls.CredentialName != "" || len(tls.CredentialNames) > 0 || len(tls.TlsCertificates) > 0) {
		c.warn(CodeNoEffect, at, "certificates have no effect with mode PASSTHROUGH")
	}
}

// serverCertificates checks a server that ends TLS.
func (c *checker) serverCertificates(tls *networking.ServerTLSSettings, at string) {
	mutual := false
	switch tls.Mode {
	case networking.ServerTLSSettings_SIMPLE:
	case networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL:
		mutual = true
	case networking.ServerTLSSettings_ISTIO_MUTUAL:
		switch {
		case !c.rules.Pods:
			c.fail(CodeNotSupported, at+".mode", "proxies on one machine have no mesh certificates; %s", gatewayTLSSupport)
		case tls.ServerCertificate != "" || tls.PrivateKey != "" || tls.CaCertificates != "" || tls.CredentialName != "" || len(tls.TlsCertificates) > 0:
			c.fail(CodeConflict, at, "with mode ISTIO_MUTUAL the certificates are those of the mesh: serverCertificate, privateKey, caCertificates and credentialName must be left out")
		}
		return
	default:
		c.fail(CodeNotSupported, at+".mode", "egret does not support %s: clients could choose any cluster by SNI; %s", tls.Mode, gatewayTLSSupport)
		return
	}
	noSecrets := "there are no Kubernetes secrets to read it from; give serverCertificate and privateKey (and caCertificates) as the paths of files"
	secret := tls.CredentialName != "" || len(tls.CredentialNames) > 0
	if c.rules.Pods {
		c.serverCredentials(tls, at)
	} else {
		c.refused(secret, at+".credentialName", noSecrets)
		c.refused(tls.CaCertCredentialName != "", at+".caCertCredentialName", noSecrets)
	}
	c.refused(tls.CaCrl != "", at+".caCrl", "ignoring it would accept revoked certificates")
	c.refused(len(tls.VerifyCertificateSpki) > 0, at+".verifyCertificateSpki", "ignoring it would accept other certificates; use subjectAltNames")
	c.refused(len(tls.VerifyCertificateHash) > 0, at+".verifyCertificateHash", "ignoring it would accept other certificates; use subjectAltNames")
	c.refused(tls.GetInsecureSkipVerify().GetValue(), at+".insecureSkipVerify", "clients whose certificate is not checked; leave caCertificates out and use SIMPLE")
	if !secret && len(tls.TlsCertificates) == 0 && (tls.ServerCertificate == "" || tls.PrivateKey == "") {
		c.fail(CodeMissing, at, "%s needs serverCertificate and privateKey, the paths of files", tls.Mode)
	}
	for i, pair := range tls.TlsCertificates {
		if pair.GetServerCertificate() == "" || pair.GetPrivateKey() == "" {
			c.fail(CodeMissing, index(at+".tlsCertificates", i), "needs serverCertificate and privateKey, the paths of files")
		}
	}
	if mutual && AuthoritiesCredential(tls) == "" && tls.CaCertificates == "" {
		c.fail(CodeMissing, at+".caCertificates", "is required for %s: the path of a file with the authorities of clients", tls.Mode)
	}
	if !mutual && (tls.CaCertificates != "" || len(tls.SubjectAltNames) > 0) {
		c.warn(CodeNoEffect, at, "with mode SIMPLE clients show no certificate: caCertificates and subjectAltNames have no effect")
	}
}
