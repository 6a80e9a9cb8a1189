package xds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
)

// The copy of a client's resources on disk: copyMagic, the SHA-256 of what follows, then
// messages that each have their length before them: a DeltaDiscoveryRequest whose node
// says whose they are, and a DeltaDiscoveryResponse for each type.
const (
	copyMagic = "egret xDS copy 1\n"
	// maxCopy is the size of a copy that is written and read, in bytes.
	maxCopy = 128 << 20
	// copyPause is how long changes are gathered before they are written.
	copyPause = time.Second
)

// keeping is what a client with a copy remembers for it; the client's mutex guards it.
type keeping struct {
	bodies  map[string]map[string]Resource // type -> name
	changed chan struct{}
	// Until a server has answered: what the copy has that nobody wants yet, and names that
	// were asked for since.
	unused map[string]map[string]Resource // type -> name
	asked  map[string][]string
}

func newKeeping() *keeping {
	return &keeping{bodies: map[string]map[string]Resource{}, changed: make(chan struct{}, 1)}
}

// note remembers what was applied, but for secrets: keys belong in memory. What is gone goes
// when the copy is made.
func (k *keeping) note(u Update, errs map[string]error) {
	if u.TypeURL == SecretType {
		return
	}
	have := k.bodies[u.TypeURL]
	if have == nil {
		have = map[string]Resource{}
		k.bodies[u.TypeURL] = have
	}
	for _, r := range u.Changed {
		if errs[r.Name] == nil {
			have[r.Name] = r
		}
	}
	poke(k.changed)
}

// ask notes names that the copy may have.
func (k *keeping) ask(typeURL string, names []string) {
	for _, n := range names {
		if _, ok := k.unused[typeURL][n]; ok {
			k.asked[typeURL] = append(k.asked[typeURL], n)
		}
	}
}

// answered forgets the copy: from now on it is the server that knows.
func (k *keeping) answered() { k.unused, k.asked = nil, nil }

// contents is what there is to write; what the client has no longer is forgotten.
func (c *Client) contents() []*discoveryv3.DeltaDiscoveryResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*discoveryv3.DeltaDiscoveryResponse
	types := maps.Clone(c.keeping.bodies)
	maps.Copy(types, c.keeping.unused)
	for _, typeURL := range slices.SortedFunc(maps.Keys(types), comparePushOrder) {
		w, bodies := c.watches[typeURL], c.keeping.bodies[typeURL]
		maps.DeleteFunc(bodies, func(name string, r Resource) bool { return w.have[name] != r.Version })
		all := maps.Clone(c.keeping.unused[typeURL])
		if all == nil {
			all = bodies
		} else {
			maps.Copy(all, bodies)
		}
		m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			r := all[name]
			m.Resources = append(m.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		}
		out = append(out, m)
	}
	return out
}

// keepCopy writes the copy some time after each change, and a last time at the end.
func (c *Client) keepCopy(ctx context.Context) {
	failed := ""
	for {
		ended := false
		select {
		case <-ctx.Done():
			select {
			case <-c.keeping.changed:
			default:
				return
			}
			ended = true
		case <-c.keeping.changed:
			ended = !wait(ctx, copyPause)
		}
		err := writeCopy(c.opts.Copy, c.opts.Node.GetId(), c.contents())
		if err != nil && err.Error() != failed {
			c.log.Error("the configuration was not copied to disk", "path", c.opts.Copy, "error", err)
		}
		if failed = ""; err != nil {
			failed = err.Error()
		}
		if ended {
			return
		}
	}
}

// wait reports whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// limited is a buffer that takes no more than maxCopy bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxCopy {
		return 0, fmt.Errorf("it is larger than %d bytes", maxCopy)
	}
	return l.Buffer.Write(p)
}

// writeCopy replaces the file, whole or not at all. Where it cannot, no older copy
// stays, from which a proxy would start with a policy of long ago.
func writeCopy(path, node string, contents []*discoveryv3.DeltaDiscoveryResponse) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(path)))
		}
	}()
	var body limited
	if _, err := protodelim.MarshalTo(&body, &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}}); err != nil {
		return err
	}
	for _, m := range contents {
		if _, err := protodelim.MarshalTo(&body, m); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*~") // 0600
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body.Bytes())
	for _, part := range [][]byte{[]byte(copyMagic), sum[:], body.Bytes()} {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// readCopy reads what writeCopy wrote for the same node.
func readCopy(path, node string) ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxCopy+int64(len(copyMagic)+sha256.Size)+1))
	if err != nil {
		return nil, err
	}
	return parseCopy(data, node)
}

func parseCopy(data []byte, node string) ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	rest, ok := bytes.CutPrefix(data, []byte(copyMagic))
	if !ok || len(rest) < sha256.Size || len(rest) > sha256.Size+maxCopy {
		return nil, errors.New("it is not a copy of a configuration, or cut off")
	}
	sum, body := rest[:sha256.Size], rest[sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil, errors.New("it is damaged: its checksum is another one")
	}
	in := bytes.NewReader(body)
	options := protodelim.UnmarshalOptions{MaxSize: maxCopy}
	var head discoveryv3.DeltaDiscoveryRequest
	if err := options.UnmarshalFrom(in, &head); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if id := head.GetNode().GetId(); id != node {
		return nil, fmt.Errorf("it is the one of %q", id)
	}
	var out []*discoveryv3.DeltaDiscoveryResponse
	for in.Len() > 0 {
		m := &discoveryv3.DeltaDiscoveryResponse{}
		if err := options.UnmarshalFrom(in, m); err != nil {
			return nil, fmt.Errorf("it is damaged: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// restore hands the copy on disk to the handler, as if a server had sent it. What the
// server has by then comes with the next stream, which tells it these versions.
func (c *Client) restore() {
	contents, err := readCopy(c.opts.Copy, c.opts.Node.GetId())
	if errors.Is(err, os.ErrNotExist) {
		c.log.Warn("the control plane is away, and there is no copy of the configuration", "path", c.opts.Copy)
		return
	}
	if err != nil {
		c.log.Error("the copy of the configuration is not used", "path", c.opts.Copy, "error", err)
		return
	}
	c.mu.Lock()
	c.keeping.unused, c.keeping.asked = map[string]map[string]Resource{}, map[string][]string{}
	c.mu.Unlock()
	n := 0
	for _, m := range contents {
		resources := make([]Resource, 0, len(m.Resources))
		for _, r := range m.Resources {
			resources = append(resources, Resource{Name: r.Name, Version: r.Version, Body: r.Resource})
		}
		n += c.revive(m.TypeUrl, resources)
	}
	c.log.Warn("the control plane is away: starting with the copy of the configuration on disk", "path", c.opts.Copy, "resources", n)
}

// reviveAsked hands out what was asked for by name since the copy was read.
func (c *Client) reviveAsked() {
	c.mu.Lock()
	found := map[string][]Resource{}
	for typeURL, names := range c.keeping.asked {
		for _, n := range names {
			if r, ok := c.keeping.unused[typeURL][n]; ok {
				found[typeURL] = append(found[typeURL], r)
				delete(c.keeping.unused[typeURL], n)
			}
		}
	}
	clear(c.keeping.asked)
	c.mu.Unlock()
	for _, typeURL := range slices.SortedFunc(maps.Keys(found), comparePushOrder) {
		c.revive(typeURL, found[typeURL])
	}
}

// revive applies those resources of the copy that are wanted by now, as what refers to
// others was applied before; those that are not wait until they are.
func (c *Client) revive(typeURL string, resources []Resource) int {
	c.mu.Lock()
	w := c.watch(typeURL)
	u := Update{TypeURL: typeURL}
	errs := map[string]error{}
	waiting := map[string]Resource{}
	for _, res := range resources {
		if !w.wanted.has(res.Name) {
			waiting[res.Name] = res
		} else if _, err := w.check(&res); err == nil {
			u.Changed = append(u.Changed, res)
		}
	}
	if c.keeping.unused != nil && len(waiting) > 0 {
		if c.keeping.unused[typeURL] == nil {
			c.keeping.unused[typeURL] = map[string]Resource{}
		}
		maps.Copy(c.keeping.unused[typeURL], waiting)
	}
	give := len(u.Changed) > 0 || w.wanted.wildcard && !w.known
	c.mu.Unlock()
	if give {
		errs = c.opts.Handler.Apply(u)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, res := range u.Changed {
		if errs[res.Name] == nil {
			w.have[res.Name] = res.Version
			n++
		}
	}
	w.known = w.known || give
	w.partial = true // no version of the whole is known
	c.keeping.note(u, errs)
	return n
}
