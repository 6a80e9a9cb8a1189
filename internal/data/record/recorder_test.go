package record

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files are log files in memory; await waits for a number of lines.
type files struct {
	mu      sync.Mutex
	written map[string]*bytes.Buffer
	changed chan struct{}
}

func newFiles() *files {
	return &files{written: map[string]*bytes.Buffer{}, changed: make(chan struct{}, 1)}
}

type memFile struct {
	f    *files
	path string
}

func (f *files) open(path string) (io.WriteCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written[path] == nil {
		f.written[path] = &bytes.Buffer{}
	}
	return memFile{f, path}, nil
}

func (m memFile) Write(b []byte) (int, error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	defer signal(m.f.changed)
	return m.f.written[m.path].Write(b)
}

func (m memFile) Close() error { return nil }

func (f *files) text(path string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.written[path]; b != nil {
		return b.String()
	}
	return ""
}

func (f *files) await(t *testing.T, path string, lines int) string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		s := f.text(path)
		if strings.Count(s, "\n") >= lines {
			return s
		}
		select {
		case <-f.changed:
		case <-deadline:
			t.Fatalf("%s: %d lines do not come, there is %q", path, lines, s)
		}
	}
}

func newRecorder(t *testing.T, o Options) *Recorder {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestRecordWritesToEachLogThatItPasses(t *testing.T) {
	f := newFiles()
	r := newRecorder(t, Options{Open: f.open})
	logs := []resource.AccessLog{
		{Path: "all", Text: "%REQ(:PATH)%\n"},
		{Path: "errors", Text: "%RESPONSE_CODE%\n", Filter: &resource.AccessLogFilter{StatusOp: "GE", StatusValue: 400}},
		{Path: "all", JSON: map[string]any{"code": "%RESPONSE_CODE%"}},
	}
	e := httpEntry()
	r.Record(e, logs)
	e.Status = 503
	r.Record(e, logs)
	if got, want := f.await(t, "all", 4), "/wiki?q=1\n{\"code\":301}\n/wiki?q=1\n{\"code\":503}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := f.await(t, "errors", 1); got != "503\n" {
		t.Errorf("got %q", got)
	}
}

// A denial is written exactly once where no log takes it, and only to the logs where one does.
func TestDenialsAreAlwaysWritten(t *testing.T) {
	denied := httpEntry()
	denied.Reason, denied.ResponseCodeDetails = reason.NotInRegistry, ""
	dropping := &resource.AccessLogFilter{StatusOp: "EQ", StatusValue: 999}
	takes := resource.AccessLog{Path: "main", Text: "main %RESPONSE_CODE_DETAILS%\n"}
	drops := resource.AccessLog{Path: "main", Text: "main %RESPONSE_CODE_DETAILS%\n", Filter: dropping}
	tests := map[string]struct {
		logs            []resource.AccessLog
		denialLog       resource.AccessLog
		main, denialOut int
	}{
		"no logs":                {nil, resource.AccessLog{Path: "denied"}, 0, 1},
		"a log takes it":         {[]resource.AccessLog{takes}, resource.AccessLog{Path: "denied"}, 1, 0},
		"the filter drops it":    {[]resource.AccessLog{drops}, resource.AccessLog{Path: "denied"}, 0, 1},
		"dropped, no denial log": {[]resource.AccessLog{drops, drops}, resource.AccessLog{}, 1, 0},
		"one of two takes it":    {[]resource.AccessLog{drops, takes}, resource.AccessLog{Path: "denied"}, 1, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFiles()
			r := newRecorder(t, Options{Open: f.open, DenialLog: tc.denialLog})
			r.Record(denied, tc.logs)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]int{"main": tc.main, "denied": tc.denialOut} {
				got := f.text(path)
				if strings.Count(got, "egret:not_in_registry") != want || strings.Count(got, "\n") != want {
					t.Errorf("%s: %d times wanted: %q", path, want, got)
				}
			}
		})
	}
}

func TestFilters(t *testing.T) {
	e := httpEntry()
	e.Flags = []string{"NR"}
	type filter = resource.AccessLogFilter
	yes, no := &filter{AnyFlag: true}, &filter{StatusOp: "EQ", StatusValue: 1}
	tests := map[string]struct {
		f    *filter
		want bool
	}{
		"nil":              {nil, true},
		"flag":             {&filter{ResponseFlags: []string{"UH", "NR"}}, true},
		"other flag":       {&filter{ResponseFlags: []string{"UH"}}, false},
		"any flag":         {yes, true},
		"status GE":        {&filter{StatusOp: "GE", StatusValue: 301}, true},
		"status LE":        {&filter{StatusOp: "LE", StatusValue: 300}, false},
		"status NE":        {&filter{StatusOp: "NE", StatusValue: 301}, false},
		"duration":         {&filter{DurationOp: "GE", DurationMS: 227}, false},
		"and":              {&filter{And: []*filter{yes, yes}}, true},
		"and not":          {&filter{And: []*filter{yes, no}}, false},
		"or":               {&filter{Or: []*filter{no, yes}}, true},
		"or not":           {&filter{Or: []*filter{no, no}}, false},
		"not health check": {&filter{NotHealthCheck: true}, true},
		"header":           {&filter{Header: &match.Header{Name: "user-agent", Value: match.String{Kind: match.Prefix, Value: "curl/"}}}, true},
		"other header":     {&filter{Header: &match.Header{Name: "user-agent", Value: match.String{Kind: match.Exact, Value: "wget"}}}, false},
		"no such header":   {&filter{Header: &match.Header{Name: "x-debug", Value: match.String{Kind: match.Present}}}, false},
		"method":           {&filter{Header: &match.Header{Name: ":method", Value: match.String{Kind: match.Exact, Value: "GET"}}}, true},
	}
	for name, tc := range tests {
		if got := passes(tc.f, e, 0); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRecordAfterClose(t *testing.T) {
	f := newFiles()
	r := newRecorder(t, Options{Open: f.open})
	logs := []resource.AccessLog{{Path: "p", Text: "line\n"}}
	r.Record(httpEntry(), logs)
	_ = r.Close()
	_ = r.Close()
	r.Record(httpEntry(), logs)
	r.Record(httpEntry(), []resource.AccessLog{{Path: "new", Text: "line\n"}})
	if got := f.text("p"); got != "line\n" || r.Dropped() != 2 {
		t.Errorf("%q, %d dropped", got, r.Dropped())
	}
}

// A list made for a later configuration is never taken for an earlier one.
func TestFormatsFollowTheConfiguration(t *testing.T) {
	f := newFiles()
	r := newRecorder(t, Options{Open: f.open})
	var want strings.Builder
	for i := range maxLists + maxFormats + 10 {
		text := fmt.Sprintf("%d\n", i)
		want.WriteString(text)
		r.Record(httpEntry(), []resource.AccessLog{{Path: "p", Text: text}})
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if f.text("p") != want.String() {
		t.Error("a line has another list's format")
	}
	if len(r.formats) > maxFormats || r.byListSize.Load() > maxLists {
		t.Errorf("%d formats and %d lists are kept", len(r.formats), r.byListSize.Load())
	}
}

func TestDenials(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open})
	c, end := r.Denials()
	host := []byte("www.google.com")
	e := &Entry{Reason: reason.NotInRegistry, Detail: "no ServiceEntry names it", Host: string(host),
		DownstreamLocal: netip.MustParseAddrPort("240.242.0.1:443"),
		Objects:         []resource.Object{{Kind: "Sidecar", Namespace: "default", Name: "s"}}}
	r.Record(httpEntry(), nil) // not a denial
	r.Record(e, nil)
	d := <-c
	if d.Host != "www.google.com" || d.Port != 443 || d.Reason != reason.NotInRegistry || d.Detail != e.Detail || len(d.Objects) != 1 || d.Time.IsZero() {
		t.Errorf("%+v", d)
	}
	for range denialQueue + 5 { // nobody reads
		r.Record(e, nil)
	}
	for range denialQueue {
		<-c
	}
	r.Record(e, nil)
	if d = <-c; d.Missed != 5 {
		t.Errorf("missed %d, want 5", d.Missed)
	}
	end()
	end()
	if _, open := <-c; open {
		t.Error("the channel is not closed")
	}
	r.Record(e, nil)
}

func scrape(t *testing.T, r *Recorder) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("metrics: %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// metric finds the value of the series of name that has all of the labels.
func metric(text, name string, labels ...string) string {
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, name+"{") && !strings.HasPrefix(l, name+" ") {
			continue
		}
		found := true
		for _, want := range labels {
			found = found && strings.Contains(l, want)
		}
		if found {
			return strings.TrimSpace(l[strings.LastIndexByte(l, ' '):])
		}
	}
	return "absent"
}

func TestMetrics(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open, Workload: Workload{Name: "test", Namespace: "default", App: "test"}})
	r.Record(httpEntry(), nil)
	r.Record(httpEntry(), nil)
	denied := httpEntry()
	denied.Reason, denied.Status, denied.UpstreamCluster, denied.Host = reason.NotInRegistry, 502, "", "www.google.com"
	r.Record(denied, nil)
	tcp := &Entry{UpstreamCluster: resource.PassthroughCluster, Host: "db.example.com", BytesSent: 10, BytesReceived: 20}
	r.Opened(tcp)
	text := scrape(t, r)
	if got := metric(text, "istio_tcp_connections_opened_total", "db.example.com"); got != "1" {
		t.Errorf("opened: %s", got)
	}
	r.Record(tcp, nil)
	r.Record(&Entry{Reason: reason.SNIMissing, Host: "10.1.2.3", Flags: []string{"UH"}}, nil)
	text = scrape(t, r)
	checks := []struct {
		name   string
		labels []string
		want   string
	}{
		{"istio_requests_total", []string{`destination_service="www.wikipedia.org"`, `response_code="301"`, `reporter="source"`,
			`source_workload="test"`, `source_workload_namespace="default"`, `request_protocol="http"`, `response_flags="-"`}, "2"},
		{"istio_requests_total", []string{`destination_service="www.google.com"`, `destination_service_name="BlackHoleCluster"`, `response_code="502"`}, "1"},
		{"istio_request_duration_milliseconds_count", []string{"www.wikipedia.org"}, "2"},
		{"istio_request_duration_milliseconds_bucket", []string{"www.wikipedia.org", `le="250"`}, "2"},
		{"istio_request_duration_milliseconds_bucket", []string{"www.wikipedia.org", `le="100"`}, "0"},
		{"istio_response_bytes_sum", []string{"www.wikipedia.org"}, "308"},
		{"istio_tcp_connections_opened_total", []string{"db.example.com", `destination_service_name="PassthroughCluster"`}, "1"},
		{"istio_tcp_connections_closed_total", []string{"db.example.com"}, "1"},
		{"istio_tcp_sent_bytes_total", []string{"db.example.com"}, "10"},
		{"istio_tcp_received_bytes_total", []string{"db.example.com"}, "20"},
		{"istio_tcp_connections_opened_total", []string{"10.1.2.3", `response_flags="UH"`}, "1"},
		{"egret_denied_total", []string{`host="www.google.com"`, `reason="not_in_registry"`}, "1"},
		{"egret_denied_total", []string{`host="10.1.2.3"`, `reason="sni_missing"`}, "1"},
	}
	for _, c := range checks {
		if got := metric(text, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v = %s, want %s", c.name, c.labels, got, c.want)
		}
	}
}

func TestHostLabelsAreBounded(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open})
	for i := range maxHosts + 100 {
		r.Record(&Entry{Reason: reason.NotInRegistry, Protocol: ProtocolDNS, Host: fmt.Sprintf("h%d.example\xff", i)}, nil)
	}
	e := httpEntry() // a configured cluster keeps its name whatever the workload did
	r.Record(e, nil)
	text := scrape(t, r)
	if n := strings.Count(text, "egret_denied_total{"); n != maxHosts+1 {
		t.Errorf("%d series, want %d", n, maxHosts+1)
	}
	if got := metric(text, "egret_denied_total", `host="other"`); got != "100" {
		t.Errorf("other: %s", got)
	}
	if got := metric(text, "istio_requests_total", `destination_service="www.wikipedia.org"`); got != "1" {
		t.Errorf("configured host: %s", got)
	}
}

func TestSeriesDoNotAliasTheEntry(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open})
	buf := []byte("first.example.com")
	e := &Entry{Reason: reason.NotInRegistry, Protocol: ProtocolDNS}
	e.Host = alias(buf)
	r.Record(e, nil)
	copy(buf, "xxxxx")
	if text := scrape(t, r); metric(text, "egret_denied_total", `host="first.example.com"`) != "1" {
		t.Error(text)
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	r := newRecorder(t, Options{Open: func(string) (io.WriteCloser, error) { return unclosed{io.Discard}, nil }})
	logs := []resource.AccessLog{{Path: "p", Text: istioDefault}}
	e := httpEntry()
	for range 2000 { // let the buffers of the file grow
		r.Record(e, logs)
	}
	if n := testing.AllocsPerRun(1000, func() { r.Record(e, logs) }); n >= 1 {
		t.Errorf("%v allocations per record", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	r, err := New(Options{Open: func(string) (io.WriteCloser, error) { return unclosed{io.Discard}, nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	logs := []resource.AccessLog{{Path: "p", Text: istioDefault}}
	e := httpEntry()
	b.ReportAllocs()
	for b.Loop() {
		r.Record(e, logs)
	}
}

func alias(b []byte) string { return unsafe.String(&b[0], len(b)) }
