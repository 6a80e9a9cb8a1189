package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/egret-mesh/egret/internal/xds"
)

// grpcBootstrap is the bootstrap of a gRPC client (gRFC A27, and A29 for certificates):
// what GRPC_XDS_BOOTSTRAP names the file of.
type grpcBootstrap struct {
	Servers   []grpcServer                       `json:"xds_servers"`
	Node      json.RawMessage                    `json:"node"`
	Providers map[string]grpcCertificateProvider `json:"certificate_providers,omitempty"`
}

type grpcServer struct {
	URI         string            `json:"server_uri"`
	Credentials []grpcCredentials `json:"channel_creds"`
	Features    []string          `json:"server_features"`
}

type grpcCredentials struct {
	Type   string     `json:"type"`
	Config *grpcFiles `json:"config,omitempty"`
}

type grpcFiles struct {
	CA   string `json:"ca_certificate_file,omitempty"`
	Cert string `json:"certificate_file,omitempty"`
	Key  string `json:"private_key_file,omitempty"`
}

type grpcCertificateProvider struct {
	Plugin string    `json:"plugin_name"`
	Config grpcFiles `json:"config"`
}

// GRPC makes the bootstrap of a gRPC client that has no proxy, as JSON. Its own certificate
// is also the one that it shows to servers of the mesh (ISTIO_MUTUAL), as in Istio.
func GRPC(o Options) ([]byte, error) {
	node, err := protojson.Marshal(o.Node)
	if err != nil {
		return nil, fmt.Errorf("encode the node: %w", err)
	}
	credentials := grpcCredentials{Type: "insecure"}
	b := grpcBootstrap{Node: node}
	if o.TLS != nil {
		if err := checkForGRPC(o.TLS, o.Servers); err != nil {
			return nil, err
		}
		files := grpcFiles{CA: o.TLS.CA, Cert: o.TLS.Cert, Key: o.TLS.Key}
		credentials = grpcCredentials{Type: "tls", Config: &files}
		if o.TLS.Cert != "" {
			b.Providers = map[string]grpcCertificateProvider{"default": {Plugin: "file_watcher", Config: files}}
		}
	}
	if len(o.Servers) == 0 || len(o.Servers) > maxServers {
		return nil, fmt.Errorf("%d addresses of control planes; 1 to %d are possible", len(o.Servers), maxServers)
	}
	for _, address := range o.Servers {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("%q is not HOST:PORT", address)
		}
		b.Servers = append(b.Servers, grpcServer{URI: address, Credentials: []grpcCredentials{credentials}, Features: []string{"xds_v3"}})
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the bootstrap: %w", err)
	}
	return append(text, '\n'), nil
}

// checkForGRPC refuses what gRPC has no words for: it asks for the name that it connects
// to, and the certificate must be for that.
func checkForGRPC(t *xds.TLS, servers []string) error {
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return errors.New("TLS: a certificate needs its key, and a key its certificate")
	case t.ServerName != "":
		return errors.New("TLS: gRPC asks for the name of the control plane's address, no other server name can be set")
	}
	for _, name := range t.Names {
		for _, address := range servers {
			if host, _, _ := net.SplitHostPort(address); host != name {
				return fmt.Errorf("TLS: gRPC accepts only a certificate for %q, the control plane's address; no other name can be set", host)
			}
		}
	}
	return nil
}
