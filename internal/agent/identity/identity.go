// Package identity gets a workload its certificate of the mesh, and renews it, as Istio's
// agent does: it makes a key, has the request signed by IstioCertificateService with the
// service account's token, and puts the result into the proxy's secrets as "default" and
// "ROOTCA".
//
// Keys are in memory only: it must not write anything to disk, and must not send a token
// without TLS.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/backoff"
	"github.com/egret-mesh/egret/internal/data/credentials"
)

// Names of the secrets, in Istio's SDS (istio.io/istio/pkg/security).
const (
	Default = "default" // the workload's certificate with its key
	RootCA  = "ROOTCA"  // the authorities of the mesh
)

// Bounds of the pause after a failure, and of one call.
const (
	defaultMinBackoff = 500 * time.Millisecond
	defaultMaxBackoff = time.Minute
	callTimeout       = 10 * time.Second
	// lookAgain is how often the clock is looked at until a renewal: it may jump.
	lookAgain = time.Minute
)

// Options of Run. Authority, ID and Secrets are needed.
type Options struct {
	// Authority is the connection to who signs. It authenticates its calls (Token).
	Authority grpc.ClientConnInterface
	// ID is the SPIFFE ID: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
	ID *url.URL
	// TTL is the life that is asked for; the authority may give another.
	TTL time.Duration
	// Grace is the part of its life that a certificate has left when it is renewed, and
	// Jitter what is added or taken away from that at random (SECRET_GRACE_PERIOD_RATIO
	// and ..._JITTER of Istio's agent; there 0.5 and 0.01).
	Grace, Jitter float64
	// CertSigner is told to the authority (ISTIO_META_CERT_SIGNER); "": nothing is.
	CertSigner string
	Secrets    *credentials.Secrets
	// MinBackoff and MaxBackoff bound the pause after a failure, which doubles. 0: 0.5 s
	// and one minute.
	MinBackoff, MaxBackoff time.Duration
	Logger                 *slog.Logger
}

// Run keeps the certificate until ctx ends; then it returns nil. While the authority does
// not give a new one the old one stays, also past its end: whoever takes it says so then.
func Run(ctx context.Context, o Options) error {
	if o.Authority == nil || o.ID == nil || o.Secrets == nil {
		return errors.New("identity: an authority, an ID and secrets are needed")
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = defaultMinBackoff
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = defaultMaxBackoff
	}
	var until time.Time // the end of the present certificate
	for failures := 0; ctx.Err() == nil; {
		end, err := o.renew(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failures, until = 0, end
			due := o.due(time.Now(), until, rand.Float64())
			o.Logger.Info("this workload has a certificate", "id", o.ID, "until", until.UTC(), "renewed", due.UTC())
			waitUntil(ctx, due)
		default:
			pause := backoff.Pause(failures, o.MinBackoff, o.MaxBackoff, rand.Float64())
			failures++
			o.Logger.Warn("no new certificate for this workload; will try again", "id", o.ID, "error", err, "pause", pause.Round(time.Millisecond), "present", describe(until))
			waitUntil(ctx, time.Now().Add(pause))
		}
	}
	return nil
}

// describe tells what there is of a certificate.
func describe(until time.Time) string {
	if until.IsZero() {
		return "none"
	}
	return "until " + until.UTC().Format(time.RFC3339)
}

// renew gets one certificate and puts it into the secrets.
func (o *Options) renew(ctx context.Context) (until time.Time, err error) {
	key, csr, err := newRequest(o.ID)
	if err != nil {
		return until, err
	}
	r := &certificateRequest{csr: csr, seconds: int64(o.TTL / time.Second)}
	if o.CertSigner != "" {
		r.metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue(o.CertSigner)}}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := sign(ctx, o.Authority, r)
	if err != nil {
		return until, err
	}
	chain, err := parseChain(list)
	if err != nil {
		return until, fmt.Errorf("the authority's answer: %w", err)
	}
	cert, roots, err := accept(chain, key, o.ID, time.Now())
	if err != nil {
		return until, fmt.Errorf("the authority's certificate: %w", err)
	}
	o.Secrets.Put(credentials.Secret{Name: Default, Certificate: cert}, credentials.Secret{Name: RootCA, Roots: roots, Authorities: chain[len(chain)-1:]})
	return cert.Leaf.NotAfter, nil
}

// due is when a certificate that was got now is renewed; random is in [0, 1).
func (o *Options) due(now, until time.Time, random float64) time.Time {
	grace := min(max(o.Grace+o.Jitter*(2*random-1), 0), 1)
	due := until.Add(-time.Duration(grace * float64(until.Sub(now))))
	if least := now.Add(o.MinBackoff); due.Before(least) {
		return least // an authority may give next to nothing
	}
	return due
}

// waitUntil waits for a time of the wall clock, or the end of ctx.
func waitUntil(ctx context.Context, due time.Time) {
	for {
		left := time.Until(due)
		if left <= 0 {
			return
		}
		t := time.NewTimer(min(left, lookAgain))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
