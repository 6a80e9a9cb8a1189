package sds

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/file/filetest"
)

// issued is a certificate with its key and the authority's, in PEM.
type issued struct{ cert, key, ca []byte }

func issue(t testing.TB, names ...string) (out []issued) {
	t.Helper()
	a := filetest.NewAuthority(t)
	for _, n := range names {
		cert, key := a.Issue(t, n, time.Now().Add(time.Hour))
		var i issued
		for path, to := range map[string]*[]byte{cert: &i.cert, key: &i.key, a.CA: &i.ca} {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			*to = text
		}
		out = append(out, i)
	}
	return out
}

// What is wrong is told with the key of the Secret that it is in, and never with a word of
// the private key.
func TestReadSecret(t *testing.T) {
	list := issue(t, "a", "b")
	a, b := list[0], list[1]
	for name, c := range map[string]struct {
		data        map[string][]byte
		pair, ca    string // what the problem says; "" no problem
		staple, crl bool
	}{
		"of type kubernetes.io/tls":   {data: map[string][]byte{"tls.crt": a.cert, "tls.key": a.key, "ca.crt": a.ca, "tls.ocsp-staple": []byte("x"), "ca.crl": []byte("y")}, staple: true, crl: true},
		"generic":                     {data: map[string][]byte{"cert": a.cert, "key": a.key, "cacert": a.ca, "crl": []byte("y")}, crl: true},
		"authorities only":            {data: map[string][]byte{"cacert": a.ca}, pair: `neither tls.crt and tls.key nor cert and key are in it, or one of them is empty; it has "cacert"`},
		"nothing":                     {pair: "it has nothing", ca: "neither ca.crt nor cacert is in it, or it is empty; it has nothing"},
		"an empty key":                {data: map[string][]byte{"tls.crt": a.cert, "tls.key": {}, "ca.crt": a.ca}, pair: "or one of them is empty"},
		"another's key":               {data: map[string][]byte{"tls.crt": a.cert, "tls.key": b.key, "ca.crt": a.ca}, pair: "tls.key: private key does not match public key"},
		"certificate and key swapped": {data: map[string][]byte{"cert": a.key, "key": a.cert, "cacert": a.ca}, pair: "cert: no certificate in PEM is in it"},
		"a key that is none":          {data: map[string][]byte{"tls.crt": a.cert, "tls.key": []byte("secret words"), "ca.crt": a.ca}, pair: "tls.key: failed to find any PEM data"},
		"half a chain":                {data: map[string][]byte{"tls.crt": append(bytes.Clone(a.cert), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...), "tls.key": a.key, "ca.crt": a.ca}, pair: "tls.crt: certificate 2:"},
		"a key that would take long":  {data: map[string][]byte{"tls.crt": a.cert, "tls.key": bytes.Repeat([]byte("A"), maxKeyPEM+1), "ca.crt": a.ca}, pair: "tls.key: it has 16385 bytes, at most 16384 are read"},
		"authorities that are none":   {data: map[string][]byte{"tls.crt": a.cert, "tls.key": a.key, "ca.crt": []byte("x")}, ca: "ca.crt: no certificate in PEM is in it"},
		"much else":                   {data: map[string][]byte{"a": nil, "b": nil, "c": nil, "d": nil, "e": nil, "f": nil, "g": nil}, pair: `it has "a", "b", "c", "d", "e", "f" and 1 more`, ca: "and 1 more"},
	} {
		s := ReadSecret(c.data, nil)
		if (s.pair != nil) != (c.pair == "") || !strings.Contains(text(s.pairProblem), c.pair) {
			t.Errorf("%s: certificate %v, %v; want %q", name, s.pair != nil, s.pairProblem, c.pair)
		}
		if (s.authorities != nil) != (c.ca == "") || !strings.Contains(text(s.authoritiesProblem), c.ca) {
			t.Errorf("%s: authorities %v, %v; want %q", name, s.authorities != nil, s.authoritiesProblem, c.ca)
		}
		if s.pair != nil && (len(s.pair.staple) > 0) != c.staple || s.authorities != nil && (len(s.authorities.crl) > 0) != c.crl {
			t.Errorf("%s: %v, %v", name, s.pair, s.authorities)
		}
		if all := text(s.pairProblem) + text(s.authoritiesProblem); strings.Contains(all, "secret words") || strings.Contains(all, string(a.key[40:60])) {
			t.Errorf("%s: the key is told: %s", name, all)
		}
	}
}

// Of a Secret that becomes bad the last good version stays; what is taken out of it goes.
func TestLastGoodSecretStays(t *testing.T) {
	a := issue(t, "a")[0]
	good := ReadSecret(map[string][]byte{"tls.crt": a.cert, "tls.key": a.key, "ca.crt": a.ca}, nil)
	bad := ReadSecret(map[string][]byte{"tls.crt": a.cert, "tls.key": []byte("x"), "ca.crt": []byte("x")}, good)
	if bad.pair != good.pair || bad.authorities != good.authorities || bad.pairProblem == nil || bad.authoritiesProblem == nil {
		t.Errorf("bad: %+v", bad)
	}
	if bad.Same(good) || !bad.Same(ReadSecret(map[string][]byte{"tls.crt": a.cert, "tls.key": []byte("x"), "ca.crt": []byte("x")}, good)) {
		t.Error("what is the same is not known")
	}
	if gone := ReadSecret(nil, bad); gone.pair != nil || gone.authorities != nil {
		t.Errorf("taken out: %+v", gone)
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]name{
		"kubernetes://web":             {"apps", "web", false},
		"kubernetes://web-cacert":      {"apps", "web-cacert", true},
		"kubernetes://other/web":       {"other", "web", false},
		"web":                          {},
		"default":                      {},
		"kubernetes://":                {},
		"kubernetes://a/b/c":           {},
		"kubernetes:///b":              {},
		"kubernetes://../web":          {"..", "web", false}, // no such namespace, and not the proxy's
		"kubernetes://We b":            {},
		"kubernetes-gateway://a/b":     {},
		"kubernetes://" + long():       {},
		"kubernetes://a/" + long()[1:]: {"a", long()[1:], false},
	} {
		got, err := parseName(in, "apps")
		if got != want || (err == nil) != (want != name{}) {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func long() string { return strings.Repeat("a", 254) }

// Whatever is in a Secret, reading it ends, and what is given is a pair or authorities that
// can be used; what is told has nothing of the key.
func FuzzReadSecret(f *testing.F) {
	a := issue(f, "a")[0]
	f.Add(a.cert, a.key, a.ca, false)
	f.Add(a.key, a.cert, []byte("x"), true)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, cert, key, ca []byte, generic bool) {
		data := map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": ca}
		if generic {
			data = map[string][]byte{"cert": cert, "key": key, "cacert": ca}
		}
		s := ReadSecret(data, nil)
		if (s.pair == nil) == (s.pairProblem == nil) || (s.authorities == nil) == (s.authoritiesProblem == nil) {
			t.Fatalf("neither or both: %v %v", s.pairProblem, s.authoritiesProblem)
		}
		if len(key) >= 16 && strings.Contains(text(s.pairProblem), string(key)) {
			t.Fatalf("the key is told: %v", s.pairProblem)
		}
		if s.pair != nil {
			if _, err := resource("kubernetes://x", s.pair); err != nil {
				t.Fatal(err)
			}
		}
		if !s.Same(ReadSecret(data, s)) {
			t.Fatal("the same again is another")
		}
	})
}
