package xds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/backoff"
)

const (
	// maxResponse is the size of one response that the client takes, in bytes.
	maxResponse = 64 << 20
	// maxAcks bounds the answers that wait because the server does not read them.
	maxAcks = 1024
)

// ClientOptions are the options of NewClient. Node and Handler are required.
type ClientOptions struct {
	Node    *corev3.Node
	Delta   bool
	Handler Handler
	Logger  *slog.Logger // nil: discard
	// MinBackoff and MaxBackoff bound the pause before a new stream: it doubles with
	// each round of the servers in which no stream lasted for MaxBackoff, and a random part
	// of up to half is taken off. 0 means 100 ms and 15 s.
	MinBackoff, MaxBackoff time.Duration
	// Others are further servers: each is asked when those before it did not answer. A
	// stream stays where it is until it ends.
	Others []grpc.ClientConnInterface
	// AnswerTimeout is how long a server may be silent on a new stream, while the client
	// has nothing; 0 means 15 s. When it has something, silence may mean that nothing
	// changed, though servers answer a first request for all of a type even then; so it is
	// four times that, and the next server is asked.
	AnswerTimeout time.Duration
	// Copy is the path of a file where what the server sent is kept, without keys; when
	// no server answers at the start, the client begins with it. "": none.
	Copy string
}

// Client keeps one ADS stream to a server and hands what comes to a handler. It
// keeps the versions of what it has, so that after a reconnection nothing unchanged is
// sent again on a delta stream. On a state-of-the-world stream what did not change
// is not handed on again.
type Client struct {
	servers []discoveryv3.AggregatedDiscoveryServiceClient // in the order in which they are asked
	opts    ClientOptions
	log     *slog.Logger
	wake    chan struct{} // for Run: names may have been dropped
	sending chan struct{} // for the sender: there may be something to say

	mu      sync.Mutex // guards what follows
	watches map[string]*watch
	status  ClientStatus
	keeping *keeping // nil without a copy
}

// ClientStatus is the state of a client's connection.
type ClientStatus struct {
	// Connected: the server has answered on the present stream.
	Connected bool
	// Server is the one of the present or the last stream: 0 is the first, others follow
	// in the order of ClientOptions.Others.
	Server int
	// Streams counts the streams that were begun.
	Streams int
	// LastError is why the last stream ended; "" for none.
	LastError string
}

// NewClient makes a client; Run runs it. The connection's message size limits do
// not matter, the client sets its own.
func NewClient(cc grpc.ClientConnInterface, o ClientOptions) *Client {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MinBackoff = cmp.Or(o.MinBackoff, 100*time.Millisecond)
	o.MaxBackoff = max(o.MinBackoff, cmp.Or(o.MaxBackoff, 15*time.Second))
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 15*time.Second)
	c := &Client{
		opts: o, log: o.Logger,
		wake: make(chan struct{}, 1), sending: make(chan struct{}, 1),
		watches: map[string]*watch{},
	}
	for _, server := range append([]grpc.ClientConnInterface{cc}, o.Others...) {
		c.servers = append(c.servers, discoveryv3.NewAggregatedDiscoveryServiceClient(server))
	}
	if o.Copy != "" {
		c.keeping = newKeeping()
	}
	return c
}

// Subscribe replaces the names that are wanted of a type; nil means all of them, an
// empty list none. It may be called at any time, also before Run and from inside
// Handler.Apply. Names that are no longer wanted reach the handler as removed. From all
// to none is possible on a delta stream only; the other form cannot say it.
func (c *Client) Subscribe(typeURL string, names []string) {
	c.mu.Lock()
	c.watch(typeURL).want(newInterest(names))
	c.mu.Unlock()
	poke(c.sending)
	poke(c.wake)
}

// Ask changes what is wanted of a type by a few names, at a cost that does not grow with
// what is wanted already; the names of less are asked for no longer. It is for handlers
// that take resources one by one: what it has of the names in less the handler throws
// away itself, and does not hear of again; see also Update.Absent. Delta streams only; it
// may be called whenever Subscribe may.
func (c *Client) Ask(typeURL string, more, less []string) {
	c.mu.Lock()
	c.watch(typeURL).ask(more, less)
	if c.keeping != nil {
		c.keeping.ask(typeURL, more)
	}
	c.mu.Unlock()
	poke(c.sending)
	poke(c.wake)
}

// watch is the one of a type; c.mu is held.
func (c *Client) watch(typeURL string) *watch {
	w := c.watches[typeURL]
	if w == nil {
		w = newWatch(typeURL, c.opts.Delta)
		c.watches[typeURL] = w
	}
	return w
}

// Status tells how the client's connection is.
func (c *Client) Status() ClientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run connects, and connects again, until ctx is done; then it returns nil, and no
// goroutine is left. An error means that the options are not usable.
func (c *Client) Run(ctx context.Context) error {
	if c.opts.Handler == nil {
		return errors.New("xds client: no handler")
	}
	if c.opts.Node.GetId() == "" {
		return errors.New("xds client: the node has no id")
	}
	var copying sync.WaitGroup
	defer copying.Wait()
	if c.keeping != nil {
		copying.Go(func() { c.keepCopy(ctx) })
	}
	told := ""
	for failures := 0; ctx.Err() == nil; failures++ {
		progress, lasted, err := c.round(ctx)
		if ctx.Err() != nil {
			break
		}
		if lasted {
			failures, told = 0, ""
		} else if !progress && failures == 0 && c.keeping != nil && !c.holds() {
			c.restore()
		}
		pause := backoff.Pause(failures, c.opts.MinBackoff, c.opts.MaxBackoff, rand.Float64())
		level := slog.LevelDebug // the same again is not told again
		if err.Error() != told {
			level, told = slog.LevelWarn, err.Error()
		}
		c.log.Log(ctx, level, "xDS stream ended; will try again", "error", err, "pause", pause.Round(time.Millisecond))
		c.pause(ctx, pause)
	}
	return nil
}

// round asks the servers, one after the other, until one answers and its stream ends.
// progress: one did. lasted: a stream was no failure, for it lasted; where the client has
// something, also without an answer. The error is never nil.
func (c *Client) round(ctx context.Context) (progress, lasted bool, err error) {
	var errs []error
	for i := range c.servers {
		began := time.Now()
		progress, err = c.stream(ctx, i)
		lasted = lasted || (progress || c.holds()) && time.Since(began) >= c.opts.MaxBackoff
		if progress || ctx.Err() != nil {
			return progress, lasted, err
		}
		if len(c.servers) > 1 {
			err = fmt.Errorf("server %d: %w", i+1, err)
		}
		errs = append(errs, err)
	}
	return false, lasted, errors.Join(errs...)
}

// holds reports whether the client has any resource.
func (c *Client) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if len(w.have) > 0 {
			return true
		}
	}
	return false
}

// pause waits, and meanwhile still tells the handler what is no longer wanted.
func (c *Client) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case <-c.wake:
			c.drop()
		}
	}
}

// stream runs one stream to its end, which is always an error. progress: the server
// answered.
func (c *Client) stream(ctx context.Context, server int) (progress bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	c.begin(server)
	defer func() { c.end(err) }()
	wire, err := c.open(ctx, server)
	if err != nil {
		return false, err
	}
	responses := make(chan *response)
	ended := make(chan error, 2)
	running.Go(func() { ended <- receive(ctx, wire, responses) })
	running.Go(func() {
		if err := c.send(ctx, wire); err != nil {
			ended <- err
		}
	})
	patience := c.opts.AnswerTimeout
	if c.holds() {
		patience *= 4
	}
	silent := time.NewTimer(patience)
	defer silent.Stop()
	for {
		select {
		case err := <-ended:
			return progress, err
		case <-silent.C:
			return false, fmt.Errorf("the server has not answered for %v", patience)
		case r := <-responses:
			silent.Stop()
			if err := c.take(r); err != nil {
				return progress, err
			}
			progress = true
		case <-c.wake:
			c.drop()
		}
	}
}

func (c *Client) open(ctx context.Context, server int) (clientWire, error) {
	size := grpc.MaxCallRecvMsgSize(maxResponse)
	if c.opts.Delta {
		st, err := c.servers[server].DeltaAggregatedResources(ctx, size)
		return deltaClient{st}, err
	}
	st, err := c.servers[server].StreamAggregatedResources(ctx, size)
	return sotwClient{st}, err
}

func (c *Client) begin(server int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Streams++
	c.status.Server = server
	for _, w := range c.watches {
		w.restart()
	}
	poke(c.sending)
}

func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Connected = false
	if err != nil {
		c.status.LastError = err.Error()
	}
	for _, w := range c.watches {
		w.restart()
	}
	poke(c.wake)
}

func receive(ctx context.Context, wire clientWire, out chan<- *response) error {
	for {
		r, err := wire.recv()
		if err != nil {
			return err
		}
		select {
		case out <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send says what there is to say, whenever that changed. That the server ended the
// stream is told by receive, which gets the status.
func (c *Client) send(ctx context.Context, wire clientWire) error {
	first := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.sending:
		}
		for r := c.next(); r != nil; r = c.next() {
			if first {
				r.node, first = c.opts.Node, false
			}
			if err := wire.send(r); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			poke(c.wake) // what was dropped may go now
		}
	}
}

func (c *Client) next() *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, typeURL := range slices.SortedFunc(maps.Keys(c.watches), comparePushOrder) {
		if r := c.watches[typeURL].next(); r != nil {
			return r
		}
	}
	return nil
}

// take hands a response to the handler and makes its answer.
func (c *Client) take(r *response) error {
	c.drop()
	c.mu.Lock()
	w := c.watches[r.typeURL]
	if w == nil || !w.started {
		c.mu.Unlock()
		return fmt.Errorf("the server sent type %q, which was not asked for", r.typeURL)
	}
	c.status.Connected = true
	if c.keeping != nil {
		c.keeping.answered()
	}
	u, errs, give := w.difference(r)
	c.mu.Unlock()
	if give {
		for name, err := range c.opts.Handler.Apply(u) {
			if err != nil {
				errs[name] = err
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.applied(r, u, errs)
	if c.keeping != nil {
		c.keeping.note(u, errs)
	}
	if len(errs) > 0 {
		c.log.Warn("xDS resource refused", "type", r.typeURL, "version", r.version, "error", problem(errs))
	}
	if len(w.acks) > maxAcks {
		return fmt.Errorf("the server does not read: %d answers wait", len(w.acks))
	}
	poke(c.sending)
	return nil
}

// drop tells the handler what is no longer subscribed to, and gives it from the copy on
// disk what it asked for while no server answers.
func (c *Client) drop() {
	if c.keeping != nil {
		c.reviveAsked()
	}
	for _, u := range c.drops() {
		c.opts.Handler.Apply(u)
		if c.keeping != nil {
			poke(c.keeping.changed)
		}
	}
}

func (c *Client) drops() []Update {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Update
	for _, typeURL := range slices.SortedFunc(maps.Keys(c.watches), comparePushOrder) {
		if names := c.watches[typeURL].dropped(); len(names) > 0 {
			out = append(out, Update{TypeURL: typeURL, Removed: names})
		}
	}
	return out
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
