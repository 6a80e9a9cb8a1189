// Package identity is the mesh's certificate authority: names of workloads (SPIFFE), the
// authority that signs, the service that proxies ask for certificates
// (IstioCertificateService), who it is that calls, and the control plane's own certificate.
//
// It must not know Kubernetes (control/trust brings what is kept there), write anything to
// disk, or sign for anybody but who calls.
package identity

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Bounds of the parts of a name: a trust domain's (SPIFFE-ID 2.1, with the 255 bytes that its
// section 2.3 has everybody take), and those of Kubernetes' names.
const (
	maxTrustDomain = 255
	maxNamespace   = 63
	maxAccount     = 253
)

// ID is the name of a workload: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
type ID struct{ TrustDomain, Namespace, ServiceAccount string }

var errName = errors.New("not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")

// ParseID reads a name. It takes what String writes and nothing else.
func ParseID(text string) (ID, error) {
	rest, ok := strings.CutPrefix(text, "spiffe://")
	parts := strings.SplitN(rest, "/", 6)
	if !ok || len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, errName
	}
	id := ID{TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[4]}
	return id, id.check()
}

// check refuses parts that could make the name of another workload.
func (id ID) check() error {
	for _, p := range []struct {
		what, text, more string
		most             int
	}{
		{"trust domain", id.TrustDomain, "._", maxTrustDomain},
		{"namespace", id.Namespace, "", maxNamespace},
		{"service account", id.ServiceAccount, ".", maxAccount},
	} {
		if p.text == "" || len(p.text) > p.most {
			return fmt.Errorf("%w: the %s has %d bytes, 1 to %d are allowed", errName, p.what, len(p.text), p.most)
		}
		for _, c := range []byte(p.text) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || strings.IndexByte(p.more, c) >= 0) {
				return fmt.Errorf("%w: the %s has the byte %q", errName, p.what, c)
			}
		}
	}
	return nil
}

// String is the name as a URI.
func (id ID) String() string {
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

func (id ID) url() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount}
}

// accountPrefix begins the user names of service accounts (Kubernetes, "Authenticating").
const accountPrefix = "system:serviceaccount:"

// parseUser reads the user name of a service account: system:serviceaccount:NAMESPACE:NAME.
func parseUser(trustDomain, user string) (ID, error) {
	rest, ok := strings.CutPrefix(user, accountPrefix)
	namespace, account, two := strings.Cut(rest, ":")
	if !ok || !two {
		return ID{}, errors.New("the user is no service account")
	}
	id := ID{TrustDomain: trustDomain, Namespace: namespace, ServiceAccount: account}
	return id, id.check()
}

// Authorize says whether who has proven to be id may have the configuration of a node that
// says to be of a namespace and, unless "", of a service account: Istio's rule
// (checkConnectionIdentity of istio.io/istio/pilot/pkg/xds).
func (id ID) Authorize(namespace, account string) error {
	if id.Namespace == namespace && (account == "" || id.ServiceAccount == account) {
		return nil
	}
	if account == "" {
		account = "any"
	}
	return fmt.Errorf("the node says that it is of namespace %q and service account %q, but who connects is %s", namespace, account, id)
}
