package proxy

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// acceptors are the open listeners, by their addresses.
type acceptors struct {
	mu     sync.Mutex
	byKey  map[string]*acceptor
	closed bool
	// inboundClosed: no listener for inbound traffic is opened any more.
	inboundClosed bool
}

// acceptor is one listener of the configuration with its sockets. The sockets stay
// while the addresses stay, whatever else changes in the listener.
type acceptor struct {
	key     string
	sockets []net.Listener
	// listener is as of the last configuration.
	listener atomic.Pointer[resource.Listener]
	wg       sync.WaitGroup
	active   atomic.Int64
	total    atomic.Uint64
}

// addressKey names a listener by what it binds to.
func addressKey(l *resource.Listener) string {
	var b strings.Builder
	b.WriteString(l.Address.String())
	for _, a := range l.AdditionalAddresses {
		b.WriteByte(' ')
		b.WriteString(a.String())
	}
	return b.String()
}

// set opens, keeps and closes sockets so that they are those of cfg. Sockets that are
// gone are closed before new ones are opened, since addresses may overlap. It reports
// whether one could not be opened.
func (a *acceptors) set(ctx context.Context, cfg *config.Config, p *Proxy) (failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	wanted := map[string]*resource.Listener{}
	for _, l := range cfg.Listeners {
		if l.BindToPort && !(a.inboundClosed && l.Direction == resource.DirectionInbound) {
			wanted[addressKey(l)] = l
		}
	}
	for key, have := range a.byKey {
		if wanted[key] == nil {
			have.close()
			delete(a.byKey, key)
			p.log.Info("listener closed", "listener", have.listener.Load().Name, "address", key)
		}
	}
	for _, l := range cfg.Listeners {
		key := addressKey(l)
		if wanted[key] != l {
			continue
		}
		if have := a.byKey[key]; have != nil {
			have.listener.Store(l)
			continue
		}
		sockets, err := p.sockets.Listen(ctx, l)
		if err != nil {
			p.log.Error("listener not opened", "listener", l.Name, "address", key, "error", err)
			failed = true
			continue
		}
		a.byKey[key] = open(key, l, sockets, p)
		p.log.Info("listener open", "listener", l.Name, "address", key)
	}
	return failed
}

func open(key string, l *resource.Listener, sockets []net.Listener, p *Proxy) *acceptor {
	a := &acceptor{key: key, sockets: sockets}
	a.listener.Store(l)
	for _, s := range sockets {
		a.wg.Go(func() { a.accept(s, p) })
	}
	return a
}

// close ends accepting. Connections that were accepted go on.
func (a *acceptor) close() {
	for _, s := range a.sockets {
		_ = s.Close()
	}
	a.wg.Wait()
}

func (a *acceptors) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for key, have := range a.byKey {
		have.close()
		delete(a.byKey, key)
	}
}

func (a *acceptors) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// states are the open listeners as metrics show them.
func (a *acceptors) states() []record.ListenerState {
	a.mu.Lock()
	defer a.mu.Unlock()
	states := make([]record.ListenerState, 0, len(a.byKey))
	for _, have := range a.byKey {
		at := have.listener.Load().Address
		states = append(states, record.ListenerState{
			Address: at.Addr().String() + "_" + strconv.Itoa(int(at.Port())), Active: have.active.Load(), Total: have.total.Load(),
		})
	}
	return states
}

func (a *acceptors) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := []string{}
	for _, have := range a.byKey {
		names = append(names, have.listener.Load().Name)
	}
	slices.Sort(names)
	return names
}

// accept takes connections until the socket is closed. An error that passes (too many
// open files) makes it wait a little, never give up.
func (a *acceptor) accept(s net.Listener, p *Proxy) {
	const least, most = 5 * time.Millisecond, time.Second
	delay := least
	for {
		conn, err := s.Accept()
		if err == nil {
			delay = least
			a.total.Add(1)
			p.begin(conn, a)
			continue
		}
		if errors.Is(err, net.ErrClosed) || p.serving.Err() != nil {
			return
		}
		p.log.Warn("accepting a connection failed", "listener", a.listener.Load().Name, "error", err)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-p.serving.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, most)
	}
}
