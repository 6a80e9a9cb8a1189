package xds

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

// secret goes with each call.
type secret struct{}

func (secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer x"}, nil
}

func (secret) RequireTransportSecurity() bool { return true }

// Who dials with a secret has no connection without TLS to send it over.
func TestDialWithSecretNeedsTLS(t *testing.T) {
	c, err := Dial("127.0.0.1:1", nil, 0, grpc.WithPerRPCCredentials(secret{}))
	if err == nil {
		_ = c.Close()
		t.Fatal("a connection without TLS would carry the secret")
	}
	if !strings.Contains(err.Error(), "transport level security") {
		t.Errorf("error: %v", err)
	}
	if c, err = Dial("127.0.0.1:1", &TLS{Names: []string{"a.example"}}, 0, grpc.WithPerRPCCredentials(secret{})); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
