package egretproxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	security "istio.io/api/security/v1alpha1"
)

const istiodName = "istiod.istio-system.svc"

// authority signs for a mesh.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"cluster.local"}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key, pem: toPEM(der)}
}

func toPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// sign makes a certificate for a key; its life ends after ttl.
func (m *authority) sign(public any, ttl time.Duration, dns []string, uris []*url.URL) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, DNSNames: dns, URIs: uris,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(ttl),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, m.cert, public, m.key)
}

// issue makes a certificate with its key.
func (m *authority) issue(dns []string, uris ...*url.URL) tls.Certificate {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	der, err := m.sign(key.Public(), time.Hour, dns, uris)
	if err != nil {
		m.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// istiod speaks the protocols of Istio's control plane on one port: TLS with the mesh's
// root, tokens, IstioCertificateService and ADS. The messages are of istio.io/api.
type istiod struct {
	security.UnimplementedIstioCertificateServiceServer
	t       *testing.T
	mesh    *authority
	address string
	cache   cachev3.SnapshotCache

	mu     sync.Mutex
	ttl    time.Duration
	away   bool              // then nothing is signed
	tokens map[string]string // token -> SPIFFE ID
	signed map[string]int    // by SPIFFE ID
	nodes  map[string]*corev3.Node
	calls  int // that had whatever token
}

func startIstiod(t *testing.T) *istiod {
	t.Helper()
	d := &istiod{t: t, mesh: newAuthority(t), ttl: time.Hour, tokens: map[string]string{}, signed: map[string]int{},
		nodes: map[string]*corev3.Node{}, cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = ln.Addr().String()
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{d.mesh.issue([]string{istiodName})}})),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if _, err := d.caller(s.Context()); err != nil {
				return err
			}
			return next(srv, s)
		}))
	ctx, cancel := context.WithCancel(context.Background())
	security.RegisterIstioCertificateServiceServer(server, d)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(ctx, d.cache, serverv3.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.ErrorDetail != nil {
				t.Errorf("NACK of %s: %s", r.TypeUrl, r.ErrorDetail.Message)
			}
			if r.Node != nil && len(r.Node.GetMetadata().GetFields()) > 0 {
				d.with(func() { d.nodes[r.Node.Id] = r.Node })
			}
			return nil
		},
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		cancel()
		server.Stop()
		<-served
	})
	return d
}

func (d *istiod) with(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// caller is who the token says; nobody else is served.
func (d *istiod) caller(ctx context.Context) (id string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if got := md.Get("clusterid"); len(got) != 1 || got[0] != "Kubernetes" {
		return "", status.Errorf(codes.InvalidArgument, "cluster %q", got)
	}
	for _, a := range md.Get("authorization") {
		if id := d.tokens[a]; id != "" {
			return id, nil
		}
	}
	return "", status.Error(codes.Unauthenticated, "the token is not valid")
}

// CreateCertificate signs for who calls, and for nobody else.
func (d *istiod) CreateCertificate(ctx context.Context, r *security.IstioCertificateRequest) (*security.IstioCertificateResponse, error) {
	id, err := d.caller(ctx)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(r.Csr))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || r.ValidityDuration != 24*60*60 {
		return nil, status.Errorf(codes.InvalidArgument, "not as pilot-agent asks: %v", r)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil || len(csr.URIs) != 1 || csr.URIs[0].String() != id {
		return nil, status.Errorf(codes.PermissionDenied, "%s asks for %v: %v", id, csr, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, status.Error(codes.Unavailable, "the authority is away")
	}
	der, err := d.mesh.sign(csr.PublicKey, d.ttl, nil, csr.URIs)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.signed[id]++
	return &security.IstioCertificateResponse{CertChain: []string{string(toPEM(der)), string(d.mesh.pem)}}, nil
}

// serve gives a node its configuration.
func (d *istiod) serve(node string, resources ...*anypb.Any) {
	d.t.Helper()
	byType := map[string][]types.Resource{}
	for _, a := range resources {
		m, err := a.UnmarshalNew()
		if err != nil {
			d.t.Fatal(err)
		}
		byType[a.TypeUrl] = append(byType[a.TypeUrl], m)
	}
	snapshot, err := cachev3.NewSnapshot("1", byType)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cache.SetSnapshot(context.Background(), node, snapshot); err != nil {
		d.t.Fatal(err)
	}
}

// shown is the certificate that a server shows on a new connection of a workload.
func (d *istiod) shown(address string, client tls.Certificate) (*tls.Conn, *x509.Certificate, error) {
	c, err := tls.Dial("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{client}, InsecureSkipVerify: true, // judged here
		VerifyConnection: func(s tls.ConnectionState) error {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(bytes.Clone(d.mesh.pem)) {
				return errors.New("no root")
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return c, c.ConnectionState().PeerCertificates[0], nil
}

func spiffe(namespace, account string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: fmt.Sprintf("/ns/%s/sa/%s", namespace, account)}
}
