package mesh

import "strings"

// ServiceProtocol is the protocol of a port of a Kubernetes Service, by Istio's protocol
// selection: the transport protocol ("TCP", "UDP", "SCTP"), then spec.ports[].appProtocol,
// then the first part of the port's name. declared is the word for Port.Declared; a port
// that says nothing is detected, except where its number belongs to a protocol in which
// the server speaks first.
// (https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/)
func ServiceProtocol(transport, appProtocol, name string, number uint32) (p Protocol, declared string) {
	if transport != "" && transport != "TCP" {
		return ProtocolUDP, transport
	}
	word := name
	if appProtocol != "" {
		word = appProtocol
		switch appProtocol {
		case "kubernetes.io/h2c":
			return ProtocolHTTP, "HTTP2"
		case "kubernetes.io/ws":
			return ProtocolHTTP, "HTTP"
		case "kubernetes.io/wss":
			return ProtocolHTTPS, "HTTPS"
		}
	}
	word = strings.ToUpper(word)
	if !strings.HasPrefix(word, "GRPC-WEB") {
		word, _, _ = strings.Cut(word, "-")
	} else {
		word = "GRPC-WEB"
	}
	switch word {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS", "TCP", "MONGO", "REDIS", "MYSQL":
		return ProtocolOf(word), word
	case "UDP":
		return ProtocolUDP, word
	}
	switch number {
	case 25, 53, 3306, 27017: // SMTP, DNS, MySQL, MongoDB
		return ProtocolTCP, "TCP"
	}
	return ProtocolAuto, ""
}
