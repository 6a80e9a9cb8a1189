package sds

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/xds"
)

// shelf is Secrets that a test fills.
type shelf struct {
	mu      sync.Mutex
	held    map[string]int
	ready   bool
	all     map[string]*Secret
	changed chan struct{}
}

func (s *shelf) Hold(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[namespace]++
}

func (s *shelf) Release(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[namespace]--; s.held[namespace] == 0 {
		delete(s.held, namespace)
	}
}

func (s *shelf) Secret(namespace, name string) (*Secret, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[namespace+"/"+name], s.ready && s.held[namespace] > 0
}

func (s *shelf) Changed() <-chan struct{} { return s.changed }

func (s *shelf) put(name string, data map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready = true; data == nil {
		delete(s.all, name)
	} else {
		s.all[name] = ReadSecret(data, s.all[name])
	}
	poke(s.changed)
}

// plain is a generator with one cluster.
type plain struct{}

func (plain) Generate(*corev3.Node) (xds.Snapshot, error) { return nil, nil }

func (plain) View(context.Context, *corev3.Node) (xds.View, error) { return plainView{}, nil }

type plainView struct{}

func (plainView) State() (xds.State, error) {
	return xds.Next(nil, xds.Snapshot{xds.ClusterType: {"c": {Name: "c", Version: "1", Body: &anypb.Any{TypeUrl: xds.ClusterType}}}}), nil
}
func (plainView) Stale() bool              { return false }
func (plainView) Hold(string, []string)    {}
func (plainView) Release(string, []string) {}
func (plainView) Leave()                   {}

type callerKey struct{}

// desk is a Server with its world, and the log that it writes.
type desk struct {
	*Server
	t     *testing.T
	shelf *shelf
	judge *judge
	log   *strings.Builder
}

func newDesk(t *testing.T, allowed bool) *desk {
	d := &desk{t: t, shelf: &shelf{held: map[string]int{}, all: map[string]*Secret{}, changed: make(chan struct{}, 1)}, judge: &judge{allowed: allowed}, log: &strings.Builder{}}
	d.Server = New(Options{
		Secrets: d.shelf, Review: d.judge.review, Logger: slog.New(slog.NewTextHandler(d.log, nil)),
		Caller: func(ctx context.Context) (Account, bool) {
			who, ok := ctx.Value(callerKey{}).(Account)
			return who, ok
		},
	})
	return d
}

// view is that of a caller; nil: nobody has asked who it is.
func (d *desk) view(who *Account) xds.View {
	d.t.Helper()
	ctx := d.t.Context()
	if who != nil {
		ctx = context.WithValue(ctx, callerKey{}, *who)
	}
	v, err := d.Around(plain{}).View(ctx, &corev3.Node{Id: "router~1.2.3.4~g.apps~x"})
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

func (d *desk) state(v xds.View) xds.Awaiting {
	d.t.Helper()
	s, err := v.State()
	if err != nil {
		d.t.Fatal(err)
	}
	return s.(xds.Awaiting)
}

// answerAll asks what is to be asked of the API server.
func (d *desk) answerAll() {
	for who, at := d.access.next(); who != (Account{}) && !at.After(time.Now()); who, at = d.access.next() {
		d.access.ask(d.t.Context(), who)
	}
}

// Who gets what: the table of the rules.
func TestWhoGetsASecret(t *testing.T) {
	a := issue(t, "a")[0]
	both := map[string][]byte{"tls.crt": a.cert, "tls.key": a.key, "ca.crt": a.ca}
	gateway := &Account{"apps", "gateway"}
	for name, c := range map[string]struct {
		who     *Account
		allowed bool
		ask     string
		gets    string // "key", "ca", "" nothing
		reason  string
	}{
		"its certificate":                         {gateway, true, "kubernetes://web", "key", ""},
		"by its namespace":                        {gateway, true, "kubernetes://apps/web", "key", ""},
		"its authorities":                         {gateway, true, "kubernetes://web-cacert", "ca", ""},
		"authorities of a Secret of their own":    {gateway, true, "kubernetes://own-cacert", "ca", ""},
		"the key without the permission":          {gateway, false, "kubernetes://web", "", "not_authorized"},
		"the authorities without it":              {gateway, false, "kubernetes://web-cacert", "ca", ""},
		"another namespace's key":                 {gateway, true, "kubernetes://other/web", "", "other_namespace"},
		"another namespace's authorities":         {gateway, true, "kubernetes://other/web-cacert", "", "other_namespace"},
		"nobody that is known":                    {nil, true, "kubernetes://web", "", "no_identity"},
		"nobody that is known, authorities":       {nil, true, "kubernetes://web-cacert", "", "no_identity"},
		"a proxy of another namespace":            {&Account{"other", "gateway"}, true, "kubernetes://apps/web", "", "other_namespace"},
		"a Secret that is not there":              {gateway, true, "kubernetes://nothing", "", "not_found"},
		"a Secret without certificate":            {gateway, true, "kubernetes://own-cacert-cacert", "ca", ""},
		"a name that is none":                     {gateway, true, "file-cert:/etc/passwd", "", "malformed_name"},
		"the key of a Secret of authorities only": {gateway, true, "kubernetes://authorities", "", "malformed"},
	} {
		d := newDesk(t, c.allowed)
		for secret, data := range map[string]map[string][]byte{"apps/web": both, "other/web": both, "apps/own-cacert": {"cacert": a.ca}, "apps/authorities": {"ca.crt": a.ca}} {
			d.shelf.put(secret, data)
		}
		v := d.view(c.who)
		v.Hold(xds.SecretType, []string{c.ask})
		d.answerAll()
		r, found := d.state(v).Find(xds.SecretType, c.ask)
		got := ""
		if found {
			var m tlsv3.Secret
			if err := r.Body.UnmarshalTo(&m); err != nil || m.GetName() != c.ask || r.Name != c.ask {
				t.Fatal(err, r.Name, m.GetName())
			}
			if string(m.GetTlsCertificate().GetPrivateKey().GetInlineBytes()) == string(a.key) {
				got = "key"
			} else if string(m.GetValidationContext().GetTrustedCa().GetInlineBytes()) == string(a.ca) {
				got = "ca"
			}
		}
		if got != c.gets {
			t.Errorf("%s: got %q, want %q", name, got, c.gets)
		}
		if log := d.log.String(); c.reason != "" && !strings.Contains(log, "reason="+c.reason) || c.reason == "" && log != "" {
			t.Errorf("%s: reason %q; the log: %s", name, c.reason, log)
		}
		if strings.Contains(d.log.String(), "PRIVATE") {
			t.Errorf("%s: the log has a key", name)
		}
		v.Leave()
		if len(d.shelf.held) > 0 || len(d.access.accounts) > 0 {
			t.Errorf("%s: held after the end: %v", name, d.shelf.held)
		}
	}
}

// A secret is awaited until it is known; each change names only what it is about.
func TestSecretsChange(t *testing.T) {
	list := issue(t, "a", "b")
	pair := func(i issued) map[string][]byte { return map[string][]byte{"tls.crt": i.cert, "tls.key": i.key} }
	d := newDesk(t, true)
	v := d.view(&Account{"apps", "gateway"})
	const web, api = "kubernetes://web", "kubernetes://api"
	v.Hold(xds.SecretType, []string{web, api})
	expect := func(what string, since uint64, changed, found, awaited int) uint64 {
		t.Helper()
		s := d.state(v)
		names, known := s.Changed(xds.SecretType, since)
		if since != 0 && (!known || len(names) != changed) {
			t.Errorf("%s: changed %q, %v", what, names, known)
		}
		if others, known := s.Changed(xds.ClusterType, since); since != 0 && (!known || len(others) > 0) {
			t.Errorf("%s: clusters changed: %q, %v", what, others, known)
		}
		got, waits := 0, 0
		for _, n := range []string{web, api} {
			if _, ok := s.Find(xds.SecretType, n); ok {
				got++
			}
			if s.Awaits(xds.SecretType, n) {
				waits++
			}
		}
		if got != found || waits != awaited {
			t.Errorf("%s: %d found, %d awaited; want %d, %d", what, got, waits, found, awaited)
		}
		if _, ok := s.Find(xds.ClusterType, "c"); !ok || len(s.All(xds.ClusterType)) != 1 || len(s.All(xds.SecretType)) != 0 {
			t.Errorf("%s: what is no secret is not as it was", what)
		}
		return s.Sequence()
	}
	at := expect("nothing is known", 0, 0, 0, 2)
	d.shelf.put("apps/web", pair(list[0]))
	at = expect("the Secrets are, the permission is not", at, 0, 0, 2)
	d.answerAll()
	at = expect("the permission is", at, 2, 1, 0)
	same := expect("nothing happens", at, 0, 1, 0)
	if same != at {
		t.Error("a new state without a change")
	}
	d.shelf.put("apps/api", pair(list[0]))
	at = expect("another Secret comes", at, 1, 2, 0)
	d.shelf.put("apps/web", pair(list[1]))
	at = expect("one is rotated", at, 1, 2, 0)
	d.shelf.put("apps/web", map[string][]byte{"tls.crt": list[0].cert, "tls.key": list[1].key})
	at = expect("it becomes bad: the last good one stays", at, 0, 2, 0)
	if !strings.Contains(d.log.String(), "secret apps/web: tls.key: private key does not match public key; the last good version stays in force") {
		t.Errorf("the log: %s", d.log)
	}
	d.shelf.put("apps/web", nil)
	at = expect("it is deleted", at, 1, 1, 0)
	v.Release(xds.SecretType, []string{web})
	if s := d.state(v).(*state); len(s.secrets) != 1 {
		t.Errorf("kept after it was let go: %d", len(s.secrets))
	}
	if at == 0 {
		t.Error("no sequence")
	}
}

// A caller that asks for very much costs bounded memory and few lines of the log.
func TestTooManySecrets(t *testing.T) {
	d := newDesk(t, true)
	v := d.view(nil)
	names := make([]string, maxNames+1000)
	for i := range names {
		names[i] = fmt.Sprint("kubernetes://", i)
	}
	v.Hold(xds.SecretType, names)
	d.state(v)
	if n := len(v.(*view).names); n != maxNames {
		t.Errorf("%d names are kept", n)
	}
	if n := strings.Count(d.log.String(), "reason=no_identity"); n != maxTold {
		t.Errorf("%d lines were written", n)
	}
	v.Release(xds.SecretType, names)
	if n := len(v.(*view).names); n != 0 {
		t.Errorf("%d names are left", n)
	}
}
