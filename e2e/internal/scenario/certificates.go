package scenario

// Certificates of gateways, from Secrets.

// issue makes a self-signed certificate with its key, NAME.crt and NAME.key.
func issue(name string) string {
	return "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=" + name +
		" -addext subjectAltName=DNS:web.example.com -keyout " + name + ".key -out " + name + ".crt 2>&1"
}

// storeCertificate makes a Secret what the files of a certificate have.
func storeCertificate(secret, name string) string {
	return "kubectl create -n istio-system secret tls " + secret + " --cert=" + name + ".crt --key=" + name + ".key --dry-run=client -o yaml | kubectl apply -f -"
}

func ingressTLS() Scenario {
	const (
		// subject is whose certificate a client of the ingress gateway sees, and the status.
		subject = "kubectl exec plain -- curl -skv -m 10 -w 'status %{http_code}' -o /dev/null --connect-to web.example.com:443:istio-ingressgateway.istio-system:443 https://web.example.com/ 2>&1 | grep -E 'subject:|status'"
		told    = "kubectl logs -n istio-system deploy/istiod | grep -F kubernetes://web-cert | tail -n 1"
	)
	return Scenario{
		Name: "ingress-tls", What: "the ingress gateway shows the certificate of a Secret: a new one at once, the last good one while it is bad or gone",
		Steps: []Step{
			{Run: issue("first") + " && " + issue("second")},
			{Run: apply + "ingress-tls.yaml", Want: "created"},
			{Run: "kubectl wait --for=condition=Ready pod/web pod/plain --timeout=90s"},
			{Run: told, Want: "reason=not_found", Within: settle},
			{Run: storeCertificate("web-cert", "first"), Want: "created"},
			{Run: subject, Want: `(?s)CN ?= ?first.*status 200`, Within: settle},
			{Run: storeCertificate("web-cert", "second"), Want: "configured"},
			{Run: subject, Want: `(?s)CN ?= ?second.*status 200`, Within: settle},
			{Run: `kubectl patch -n istio-system secret web-cert -p '{"data":{"tls.key":"c2VjcmV0IHdvcmRz"}}'`, Want: "patched"},
			{Run: told, Want: `reason=malformed_update .*secret istio-system/web-cert: tls\.key: `, Within: settle},
			{Run: subject, Want: `(?s)CN ?= ?second.*status 200`},
			{Run: "kubectl delete -n istio-system secret web-cert", Want: "deleted"},
			{Run: told, Want: "reason=not_found", Within: settle},
			{Run: subject, Want: `(?s)CN ?= ?second.*status 200`},
			{Run: "istioctl proxy-config secrets deploy/istio-ingressgateway.istio-system", Want: `kubernetes://web-cert +(Cert Chain|CA) +ACTIVE +true`},
			{Run: "kubectl logs -n istio-system deploy/istiod | grep -c -e 'PRIVATE KEY' -e 'secret words'", Fails: true, Want: "^0"},
		},
		Undo: []string{remove + "ingress-tls.yaml --now", "kubectl delete -n istio-system secret web-cert --ignore-not-found"},
	}
}
