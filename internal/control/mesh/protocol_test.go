package mesh

import "testing"

func TestServiceProtocol(t *testing.T) {
	for _, c := range []struct {
		transport, app, name string
		number               uint32
		want                 Protocol
		declared             string
	}{
		{"TCP", "", "http", 80, ProtocolHTTP, "HTTP"},
		{"", "", "http-web", 80, ProtocolHTTP, "HTTP"},
		{"TCP", "", "HTTP2-x", 80, ProtocolHTTP, "HTTP2"},
		{"TCP", "", "grpc-web-x", 80, ProtocolHTTP, "GRPC-WEB"},
		{"TCP", "", "grpc-x", 80, ProtocolHTTP, "GRPC"},
		{"TCP", "", "https-dns", 15012, ProtocolHTTPS, "HTTPS"},
		{"TCP", "", "tls", 443, ProtocolTLS, "TLS"},
		{"TCP", "", "mysql", 1, ProtocolTCP, "MYSQL"},
		{"TCP", "", "httpx", 80, ProtocolAuto, ""},
		{"TCP", "", "", 80, ProtocolAuto, ""},
		{"TCP", "", "", 3306, ProtocolTCP, "TCP"},
		{"TCP", "", "dns-tcp", 53, ProtocolTCP, "TCP"},
		{"TCP", "https", "http", 80, ProtocolHTTPS, "HTTPS"},
		{"TCP", "kubernetes.io/h2c", "tcp", 80, ProtocolHTTP, "HTTP2"},
		{"TCP", "kubernetes.io/ws", "tcp", 80, ProtocolHTTP, "HTTP"},
		{"TCP", "kubernetes.io/wss", "tcp", 80, ProtocolHTTPS, "HTTPS"},
		{"TCP", "example.com/own", "http", 80, ProtocolAuto, ""},
		{"UDP", "http", "http", 80, ProtocolUDP, "UDP"},
		{"SCTP", "", "http", 80, ProtocolUDP, "SCTP"},
	} {
		got, declared := ServiceProtocol(c.transport, c.app, c.name, c.number)
		if got != c.want || declared != c.declared {
			t.Errorf("%s %q %q %d is %s (%q), want %s (%q)", c.transport, c.app, c.name, c.number, got, declared, c.want, c.declared)
		}
	}
}
