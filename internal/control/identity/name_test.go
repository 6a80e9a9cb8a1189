package identity

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	for text, want := range map[string]ID{
		"spiffe://cluster.local/ns/default/sa/sleep": {"cluster.local", "default", "sleep"},
		"spiffe://my_mesh-1.example/ns/a-b/sa/x.y":   {"my_mesh-1.example", "a-b", "x.y"},
		"":                                      {},
		"spiffe://cluster.local":                {},
		"spiffe://cluster.local/ns/default/sa/": {},
		"spiffe://cluster.local/ns/default/sa/a/b":           {},
		"spiffe://cluster.local/ns//sa/sleep":                {},
		"spiffe:///ns/default/sa/sleep":                      {},
		"spiffe://cluster.local/sa/default/ns/sleep":         {},
		"https://cluster.local/ns/default/sa/sleep":          {},
		"SPIFFE://cluster.local/ns/default/sa/sleep":         {},
		"spiffe://cluster.local/ns/default/sa/sleep?a":       {},
		"spiffe://cluster.local/ns/default/sa/sleep#a":       {},
		"spiffe://cluster.local/ns/default/sa/sl%65ep":       {},
		"spiffe://user@cluster.local/ns/a/sa/b":              {},
		"spiffe://cluster.local:8080/ns/a/sa/b":              {},
		"spiffe://cluster.local/ns/a.b/sa/c":                 {},
		"spiffe://cluster.local/ns/Default/sa/sleep":         {},
		"spiffe://cluster.local/ns/a/sa/b\n":                 {},
		"spiffe://a/ns/" + strings.Repeat("n", 64) + "/sa/b": {},
	} {
		got, err := ParseID(text)
		if want == (ID{}) {
			if err == nil {
				t.Errorf("%q is taken as %v", text, got)
			}
			continue
		}
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParseUser(t *testing.T) {
	for user, want := range map[string]string{
		"system:serviceaccount:default:sleep":     "spiffe://td/ns/default/sa/sleep",
		"system:serviceaccount:default":           "",
		"system:serviceaccount:default:":          "",
		"system:serviceaccount:a:b:c":             "",
		"system:serviceaccount:a/sa/admin/b:c":    "",
		"system:node:worker":                      "",
		"system:serviceaccount:default:a/sa/b":    "",
		"xsystem:serviceaccount:default:sleep":    "",
		"system:serviceaccount:default:sleep\x00": "",
	} {
		id, err := parseUser("td", user)
		if (err == nil) != (want != "") || err == nil && id.String() != want {
			t.Errorf("%q: %v, %v", user, id, err)
		}
	}
}

func TestAuthorize(t *testing.T) {
	id := ID{mesh, "default", "sleep"}
	for _, tc := range []struct {
		namespace, account string
		ok                 bool
	}{
		{"default", "sleep", true}, {"default", "", true}, {"default", "other", false}, {"istio-system", "sleep", false}, {"istio-system", "", false}, {"", "", false},
	} {
		if err := id.Authorize(tc.namespace, tc.account); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

// What is taken is what it is written as, and what net/url and so any other reader reads.
func FuzzParseID(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/default/sa/sleep")
	f.Add("spiffe://a/ns/b/sa/c/../d")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err != nil {
			return
		}
		u, err := url.Parse(text)
		if err != nil || id.String() != text || u.String() != text || u.Host != id.TrustDomain || u.User != nil || u.RawQuery != "" || id.url().String() != text {
			t.Errorf("%q is %+v, and by net/url %+v, %v", text, id, u, err)
		}
	})
}

// A user name gives the name of the account that it has, or none.
func FuzzParseUser(f *testing.F) {
	f.Add("system:serviceaccount:default:sleep")
	f.Fuzz(func(t *testing.T, user string) {
		id, err := parseUser(mesh, user)
		if err == nil && (accountPrefix+id.Namespace+":"+id.ServiceAccount != user || id.check() != nil) {
			t.Errorf("%q is %+v", user, id)
		}
	})
}
