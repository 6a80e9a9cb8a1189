package match

import (
	"net/netip"
	"strings"
	"testing"
)

func mustWhole(t testing.TB, p string) String {
	t.Helper()
	re, err := CompileWhole(p)
	if err != nil {
		t.Fatal(err)
	}
	return String{Kind: Regex, Value: p, Regex: re}
}

func TestString(t *testing.T) {
	for _, tc := range []struct {
		name string
		m    String
		in   string
		want bool
	}{
		{"exact", String{Value: "abc"}, "abc", true},
		{"exact case", String{Value: "abc"}, "ABC", false},
		{"exact fold", String{Value: "aBc", IgnoreCase: true}, "AbC", true},
		{"exact fold is ASCII only", String{Value: "k", IgnoreCase: true}, "\u212a", false},
		{"prefix", String{Kind: Prefix, Value: "ab"}, "abc", true},
		{"prefix longer than input", String{Kind: Prefix, Value: "abcd"}, "abc", false},
		{"prefix fold", String{Kind: Prefix, Value: "AB", IgnoreCase: true}, "abc", true},
		{"suffix", String{Kind: Suffix, Value: "bc"}, "abc", true},
		{"suffix not", String{Kind: Suffix, Value: "ab"}, "abc", false},
		{"suffix fold", String{Kind: Suffix, Value: "BC", IgnoreCase: true}, "abc", true},
		{"contains", String{Kind: Contains, Value: "b"}, "abc", true},
		{"contains fold", String{Kind: Contains, Value: "BC", IgnoreCase: true}, "abcd", true},
		{"contains fold at the end", String{Kind: Contains, Value: "CD", IgnoreCase: true}, "abcd", true},
		{"contains not", String{Kind: Contains, Value: "x", IgnoreCase: true}, "abcd", false},
		{"regex", mustWhole(t, "a|bc"), "bc", true},
		{"regex matches the whole input", mustWhole(t, "a|bc"), "abc", false},
		{"regex alternation keeps its scope", mustWhole(t, "a|b"), "ac", false},
		{"regex newline at the end", mustWhole(t, "a"), "a\n", false},
		{"regex missing", String{Kind: Regex}, "a", false},
		{"present", String{Kind: Present}, "", true},
	} {
		if got := tc.m.Match(tc.in); got != tc.want {
			t.Errorf("%s: %q: got %v, want %v", tc.name, tc.in, got, tc.want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, p := range []string{
		"a)(b", // must not be completed by our own brackets
		"(",
		strings.Repeat("a", maxPattern+1),
		strings.Repeat("(a{500}){2}", 40),
		`(?=x)`,
	} {
		if _, err := CompileWhole(p); err == nil {
			t.Errorf("%.40q: compiled", p)
		}
	}
}

func TestHeader(t *testing.T) {
	exact := func(v string) String { return String{Value: v} }
	for _, tc := range []struct {
		name    string
		h       Header
		value   string
		present bool
		want    bool
	}{
		{"exact", Header{Value: exact("v")}, "v", true, true},
		{"exact differs", Header{Value: exact("v")}, "w", true, false},
		{"exact missing", Header{Value: exact("v")}, "", false, false},
		{"invert", Header{Value: exact("v"), Invert: true}, "w", true, true},
		{"invert same", Header{Value: exact("v"), Invert: true}, "v", true, false},
		{"invert missing is no match", Header{Value: exact("v"), Invert: true}, "", false, false},
		{"invert missing as empty", Header{Value: exact("v"), Invert: true, TreatMissingAsEmpty: true}, "", false, true},
		{"exact empty missing as empty", Header{Value: exact(""), TreatMissingAsEmpty: true}, "", false, true},
		{"present", Header{Value: String{Kind: Present}}, "", true, true},
		{"present missing", Header{Value: String{Kind: Present}}, "", false, false},
		{"absent", Header{Value: String{Kind: Present}, Invert: true}, "", false, true},
		{"absent but there", Header{Value: String{Kind: Present}, Invert: true}, "x", true, false},
		{"joined values", Header{Value: exact("a,b")}, "a,b", true, true},
		{"range start", Header{Range: &Range{1, 10}}, "1", true, true},
		{"range end is out", Header{Range: &Range{1, 10}}, "10", true, false},
		{"range negative", Header{Range: &Range{-5, 0}}, "-5", true, true},
		{"range no number", Header{Range: &Range{0, 10}}, "1x", true, false},
		{"range empty", Header{Range: &Range{0, 10}}, "", true, false},
		{"range overflow", Header{Range: &Range{0, 10}}, "99999999999999999999", true, false},
		{"range missing", Header{Range: &Range{0, 10}}, "", false, false},
		{"range missing inverted", Header{Range: &Range{0, 10}, Invert: true}, "", false, false},
		{"range inverted", Header{Range: &Range{0, 10}, Invert: true}, "11", true, true},
	} {
		if got := tc.h.Match(tc.value, tc.present); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestQuery(t *testing.T) {
	for _, tc := range []struct {
		q      Query
		target string
		want   bool
	}{
		{Query{"a", String{Value: "1"}}, "/?a=1", true},
		{Query{"a", String{Value: "1"}}, "/?b=2&a=1", true},
		{Query{"a", String{Value: "1"}}, "/?a=2&a=1", false},
		{Query{"a", String{Value: "1"}}, "/a=1", false},
		{Query{"a", String{Value: ""}}, "/?a", true},
		{Query{"a", String{Kind: Present}}, "/?a", true},
		{Query{"a", String{Kind: Present}}, "/?ab=1", false},
		{Query{"a", String{Value: "x y"}}, "/?a=x%20y", false},
		{Query{"a", String{Value: "b?c"}}, "/?a=b?c", true},
	} {
		if got := tc.q.Match(tc.target); got != tc.want {
			t.Errorf("%+v %q: got %v, want %v", tc.q, tc.target, got, tc.want)
		}
	}
}

func TestHost(t *testing.T) {
	for _, tc := range []struct {
		pattern, host string
		want          bool
	}{
		{"*", "anything", true},
		{"www.example.com", "WWW.example.com", true},
		{"www.example.com", "example.com", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.EXAMPLE.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "evilexample.com", false},
		{"*-x.example.com", "a-x.example.com", true},
		{"www.*", "www.example.com", true},
		{"www.*", "www.", false},
	} {
		if got := Host(tc.pattern, tc.host); got != tc.want {
			t.Errorf("%q %q: got %v, want %v", tc.pattern, tc.host, got, tc.want)
		}
	}
}

func TestSplitHost(t *testing.T) {
	for _, tc := range []struct {
		in, host string
		port     uint16
	}{
		{"example.com", "example.com", 0},
		{"example.com:80", "example.com", 80},
		{"example.com:", "example.com:", 0},
		{"example.com:x", "example.com:x", 0},
		{"example.com:-1", "example.com:-1", 0},
		{"example.com:65536", "example.com:65536", 0},
		{"[::1]", "[::1]", 0},
		{"[::1]:8080", "[::1]", 8080},
		{"::1", "::1", 0},
		{"", "", 0},
		{":80", "", 80},
	} {
		host, port := SplitHost(tc.in)
		if host != tc.host || port != tc.port {
			t.Errorf("%q: got %q %d, want %q %d", tc.in, host, port, tc.host, tc.port)
		}
	}
}

func TestLiteralAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "[::1]": "::1", "::1": "::1", "::ffff:10.0.0.1": "10.0.0.1",
		"example.com": "", "10.0.0": "", "": "", "1.2.3.4.example.com": "", "[]": "",
	} {
		got, ok := LiteralAddress(in)
		if ok != (want != "") || (ok && got != netip.MustParseAddr(want)) {
			t.Errorf("%q: got %v %v, want %q", in, got, ok, want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	if _, err := ParsePrefix("10.0.0.1", 33); err == nil {
		t.Error("10.0.0.1/33 accepted")
	}
	if got, err := ParsePrefix("10.1.2.3", 8); err != nil || got != netip.MustParsePrefix("10.0.0.0/8") {
		t.Errorf("got %v %v", got, err)
	}
}

func TestNoAllocation(t *testing.T) {
	re := mustWhole(t, "[a-z]+/[0-9]+")
	h := Header{Range: &Range{0, 10}}
	q := Query{"a", String{Value: "1"}}
	s := String{Kind: Contains, Value: "EXAMPLE", IgnoreCase: true}
	n := testing.AllocsPerRun(100, func() {
		re.Match("abc/123")
		h.Match("not a number", true)
		q.Match("/?b=1&a=1")
		s.Match("www.example.com")
		_ = Host("*.example.com", "www.example.com")
		LiteralAddress("www.example.com")
		Name("www.example.com.:80")
		Lower("www.example.com")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzHost(f *testing.F) {
	f.Add("*.example.com", "a.example.com:80")
	f.Add("www.*", "[::1]:80")
	f.Fuzz(func(t *testing.T, pattern, authority string) {
		host, port := SplitHost(authority)
		if !strings.HasPrefix(authority, host) || (port != 0 && len(host) >= len(authority)) {
			t.Fatalf("%q split into %q %d", authority, host, port)
		}
		if Host(pattern, host) != Host(strings.ToUpper(pattern), host) && isASCII(pattern) {
			t.Fatalf("%q %q depends on case", pattern, host)
		}
		if strings.HasPrefix(pattern, "*.") && Host(pattern, host) && EqualFold(pattern[2:], host) && !strings.HasSuffix(host, pattern[1:]) {
			t.Fatalf("%q matches its own apex %q", pattern, host)
		}
		LiteralAddress(host)
		Name(authority)
	})
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func FuzzRegex(f *testing.F) {
	f.Add("a|b", "a")
	f.Add("(a{10}){10}", "aaaa")
	f.Fuzz(func(t *testing.T, pattern, input string) {
		re, err := CompileWhole(pattern)
		if err != nil {
			return
		}
		s := String{Kind: Regex, Regex: re}
		if got := re.FindString(input); s.Match(input) && got != input {
			t.Fatalf("%q matched %q of %q", pattern, got, input)
		}
	})
}

func TestIsHostName(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:61]}, ".")
	for name, want := range map[string]bool{
		"example.com": true, "a": true, "_sip._tcp.a-b.example": true, "192.0.2.1": true, label + ".com": true, long: true,
		"": false, ".": false, ".a": false, "a.": false, "a..b": false, "A.com": false, "a b": false, "a\\.b": false,
		"*.example.com": false, "b\u00fccher.de": false, "a:80": false, "a" + label: false, long + "a": false,
	} {
		if got := IsHostName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if got := CanonicalName("Www.Example.COM."); got != "www.example.com" {
		t.Errorf("canonical name %q", got)
	}
}

func TestIsGRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc+": true,
		"": false, "application/grpc-web": false, "application/grpc;a=b": false, "Application/grpc": false, "application/grp": false, " application/grpc": false,
	} {
		if got := IsGRPC(contentType); got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
}
