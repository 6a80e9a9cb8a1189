package record

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// Workload says whose calls are recorded; empty fields are told as "unknown".
type Workload struct {
	Name, Namespace, App, Version, Cluster string
}

// Options of a Recorder. The zero value records to the paths that the configuration
// names, and denials nowhere else.
type Options struct {
	// Open opens a log file by the path in the configuration; nil: OpenFile. It may
	// block: it is called from the file's own goroutine.
	Open func(path string) (io.WriteCloser, error)
	// DenialLog takes each denial that no access log has written (there is none, or a
	// filter drops it). Without Text and JSON it has Istio's default format. Without a
	// Path, such denials go to the first access log, past its filter.
	DenialLog resource.AccessLog
	Workload  Workload
	Hostname  string // %HOSTNAME%
	// Getenv is %ENVIRONMENT(X)%; nil: there is none.
	Getenv func(name string) string
	Logger *slog.Logger
	// Lost is told why lines could not be written, once until the file takes lines
	// again; nil: nobody. It is called from the file's own goroutine.
	Lost func(error)
	// State is asked at every scrape for what the other parts of the proxy count; nil:
	// nothing. It must be safe for concurrent use.
	State func() State
	// CloseTimeout bounds how long Close waits for files; 0: 2 s.
	CloseTimeout time.Duration
}

// Recorder tells finished connections and requests. It is safe for concurrent use;
// Record never waits for a file or a subscriber.
type Recorder struct {
	hostname     string
	getenv       func(string) string
	identity     [16]byte // random, for %STREAM_ID%
	open         func(path string) (io.WriteCloser, error)
	log          *slog.Logger
	closeTimeout time.Duration
	lost         func(error)
	metrics      *metrics
	subscribers  subscribers
	dropped      atomic.Uint64
	buffers      sync.Pool
	denialLog    []resource.AccessLog // none or one

	// byList finds the compiled logs of a list by the address of its first element.
	// The value keeps the list alive, so the address cannot come to mean another one.
	byList     sync.Map // *resource.AccessLog -> *compiledList
	byListSize atomic.Int32

	// values are compiled header values by their text: string -> []op.
	values     sync.Map
	valueCount atomic.Int32

	mu      sync.Mutex
	formats map[string]*lineFormat // by content
	sinks   map[string]*sink       // by path
	closed  bool
}

// Bounds on what is kept of configurations that are no longer in use.
const (
	maxLists   = 8192
	maxFormats = 256
	maxSinks   = 64
)

type compiledList struct {
	list []resource.AccessLog // keeps the key's address in use
	logs []compiledLog
}

type compiledLog struct {
	format *lineFormat
	sink   *sink
	filter *resource.AccessLogFilter
}

// lineFormat is a compiled text or JSON format.
type lineFormat struct {
	text []op
	json *jsonNode
	omit bool
}

// New makes a Recorder. It fails when Options.DenialLog has a format that Envoy would refuse.
func New(o Options) (*Recorder, error) {
	r := &Recorder{
		hostname: o.Hostname, getenv: o.Getenv, open: o.Open, log: o.Logger, closeTimeout: o.CloseTimeout, lost: o.Lost,
		formats: map[string]*lineFormat{}, sinks: map[string]*sink{},
	}
	if r.open == nil {
		r.open = OpenFile
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.lost == nil {
		r.lost = func(error) {}
	}
	if r.closeTimeout == 0 {
		r.closeTimeout = 2 * time.Second
	}
	_, _ = rand.Read(r.identity[:]) // never fails
	r.buffers.New = func() any { b := make([]byte, 0, 1024); return &b }
	if l := o.DenialLog; l.Path != "" {
		if l.Text == "" && l.JSON == nil {
			l.Text = IstioTextFormat
		}
		if _, err := compile(&l); err != nil {
			return nil, fmt.Errorf("denial log %q: %w", l.Path, err)
		}
		l.Filter = nil
		r.denialLog = []resource.AccessLog{l}
	}
	r.metrics = newMetrics(o.Workload, &r.dropped)
	r.metrics.registry.MustRegister(&stateCollector{metrics: r.metrics, state: o.State, start: time.Now()})
	return r, nil
}

// Record tells one finished entry to the access logs whose filters it passes, to the
// metrics, and when it is a denial to the subscribers. A denial is written even when
// no access log takes it. It keeps neither e nor its strings.
func (r *Recorder) Record(e *Entry, logs []resource.AccessLog) {
	denied := e.Reason.Denied()
	host := e.Host
	if denied && host == "" {
		host = hostOf(e)
	}
	r.metrics.count(e, host)
	written := false
	compiled := r.compiled(logs)
	for i := range compiled {
		if l := &compiled[i]; passes(l.filter, e, 0) {
			r.write(l, e, denied)
			written = true
		}
	}
	if !denied {
		return
	}
	if !written {
		if own := r.compiled(r.denialLog); len(own) > 0 {
			compiled = own
		}
		if len(compiled) > 0 {
			r.write(&compiled[0], e, true)
		}
	}
	r.subscribers.tell(e, host, time.Now())
}

// Opened counts a TCP connection when it begins to be forwarded, so that opened
// minus closed is the number of live ones. Record of the same entry counts its end.
func (r *Recorder) Opened(e *Entry) {
	if e.Protocol == ProtocolTCP && !e.Opened {
		e.Opened = true
		r.metrics.tcpSeries(e).opened.Inc()
	}
}

// Denials subscribes to refusals. A subscriber that does not read loses denials,
// never delays a connection. The function ends the subscription and closes the channel.
func (r *Recorder) Denials() (<-chan Denial, func()) { return r.subscribers.add() }

// Metrics is what the metrics are collected from, for a handler that serves several
// recorders.
func (r *Recorder) Metrics() prometheus.Collector { return r.metrics.registry }

// MetricsHandler serves the metrics in Prometheus' formats.
func (r *Recorder) MetricsHandler() http.Handler { return r.metrics.handler() }

// Dropped is how many access log lines were lost so far.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Close writes what is left to the files, closes them and ends subscriptions. What
// is recorded after it is counted, not written. The error names files that took nothing.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	sinks := make([]*sink, 0, len(r.sinks))
	for _, s := range r.sinks {
		sinks = append(sinks, s)
	}
	r.mu.Unlock()
	r.subscribers.closeAll()
	giveUp := make(chan time.Time)
	timer := time.AfterFunc(r.closeTimeout, func() { close(giveUp) })
	defer timer.Stop()
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.close(giveUp))
	}
	return errors.Join(errs...)
}

func hostOf(e *Entry) string {
	switch {
	case e.SNI != "":
		return e.SNI
	case e.Authority != "":
		return e.Authority
	case e.DownstreamLocal.IsValid():
		return e.DownstreamLocal.Addr().String()
	}
	return ""
}

// write formats one line into a pooled buffer and gives it to the file.
func (r *Recorder) write(l *compiledLog, e *Entry, urgent bool) {
	if l.sink == nil {
		r.dropped.Add(1)
		return
	}
	p := r.buffers.Get().(*[]byte)
	b := l.format.append((*p)[:0], r, e)
	l.sink.put(b, urgent)
	if cap(b) <= 64<<10 {
		*p = b
		r.buffers.Put(p)
	}
}

func (f *lineFormat) append(dst []byte, r *Recorder, e *Entry) []byte {
	if f.json != nil {
		return append(f.json.appendJSON(dst, r, e, f.omit), '\n')
	}
	return appendText(dst, r, e, f.text)
}

// compiled gives the compiled form of a list of logs, made at its first use.
func (r *Recorder) compiled(logs []resource.AccessLog) []compiledLog {
	if len(logs) == 0 {
		return nil
	}
	if v, ok := r.byList.Load(&logs[0]); ok {
		if c := v.(*compiledList); len(c.list) == len(logs) {
			return c.logs
		}
	}
	c := &compiledList{list: logs}
	for i := range logs {
		c.logs = append(c.logs, compiledLog{format: r.format(&logs[i]), sink: r.sink(logs[i].Path), filter: logs[i].Filter})
	}
	if r.byListSize.Add(1) > maxLists { // old configurations: begin again
		r.byList.Clear()
		r.byListSize.Store(1)
	}
	r.byList.Store(&logs[0], c)
	return c.logs
}

// format compiles a format once per content.
func (r *Recorder) format(l *resource.AccessLog) *lineFormat {
	key := "text " + l.Text
	if l.JSON != nil {
		b, err := json.Marshal(l.JSON)
		if err != nil {
			b = []byte(l.Path)
		}
		key = fmt.Sprintf("json %v %s", l.OmitEmpty, b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.formats[key]; f != nil {
		return f
	}
	f, err := compile(l)
	if err != nil { // the decoder refuses such formats before
		r.log.Error("access log format not usable, Envoy's default is used instead", "path", l.Path, "error", err)
		f, _ = compile(&resource.AccessLog{})
	}
	if len(r.formats) >= maxFormats {
		clear(r.formats)
	}
	r.formats[key] = f
	return f
}

func compile(l *resource.AccessLog) (*lineFormat, error) {
	if l.JSON != nil {
		n, err := compileJSON(l.JSON)
		return &lineFormat{json: &n, omit: l.OmitEmpty}, err
	}
	text := l.Text
	if text == "" {
		text = defaultEnvoyFormat
	}
	ops, err := compileText(text)
	return &lineFormat{text: ops}, err
}

// sink gives the file of a path; nil when there are too many or the recorder is closed.
func (r *Recorder) sink(path string) *sink {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sinks[path]; s != nil {
		return s
	}
	if r.closed || len(r.sinks) >= maxSinks {
		r.log.Error("access log not opened", "path", path, "open", len(r.sinks), "closed", r.closed)
		return nil
	}
	s := newSink(path, r.open, r.log.With("component", "record"), &r.dropped)
	s.lost = r.lost
	go s.run()
	r.sinks[path] = s
	return s
}
