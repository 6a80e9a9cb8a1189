package resource

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cncf/xds/go/udpa/annotations"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Decoder turns resources into structs. A field that changes what is allowed or
// where bytes go and that Egret does not implement is an error; a cosmetic one
// (statistics, tracing, ...) is left out and told to Skipped. docs/envoy-fields.md
// lists both. The zero value is ready for use.
type Decoder struct {
	// Skipped, if not nil, is called for each field or filter left out, with its
	// full name ("envoy.config.cluster.v3.Cluster.alt_stat_name") or the type of
	// the filter ("type.googleapis.com/stats.PluginConfig").
	Skipped func(field string)
}

// DecodeListener decodes an envoy.config.listener.v3.Listener.
func DecodeListener(a *anypb.Any) (*Listener, error) { return Decoder{}.Listener(a) }

// DecodeRouteConfiguration decodes an envoy.config.route.v3.RouteConfiguration.
func DecodeRouteConfiguration(a *anypb.Any) (*RouteConfiguration, error) {
	return Decoder{}.RouteConfiguration(a)
}

// DecodeCluster decodes an envoy.config.cluster.v3.Cluster.
func DecodeCluster(a *anypb.Any) (*Cluster, error) { return Decoder{}.Cluster(a) }

// DecodeEndpoints decodes an envoy.config.endpoint.v3.ClusterLoadAssignment.
func DecodeEndpoints(a *anypb.Any) (*Endpoints, error) { return Decoder{}.Endpoints(a) }

const (
	maxDepth  = 64 // nesting of a message
	maxErrors = 5  // told per resource
)

// path is where in a resource the decoder is; it is written out for errors only.
type path struct {
	up    *path
	name  string
	index int // -1: not an element of a list
}

func (p *path) field(name string) *path { return &path{up: p, name: name, index: -1} }

func (p *path) at(name string, i int) *path { return &path{up: p, name: name, index: i} }

func (p *path) String() string {
	var parts []string
	for ; p != nil && p.name != ""; p = p.up {
		s := p.name
		if p.index >= 0 {
			s += "[" + strconv.Itoa(p.index) + "]"
		}
		parts = append(parts, s)
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".")
}

// decoding is the state of one resource's decoding. Errors stick: the decoder goes
// on after one, so that an operator sees several at once, and the result is thrown away.
type decoding struct {
	skipped func(string)
	errs    []failure
	// maxDirectBody bounds direct response bodies, in bytes.
	maxDirectBody uint32
	// logs are lists of access logs by their bytes: thousands of chains have the same.
	logs map[string][]AccessLog
	// subscribed are the secrets of a TLS context that come by ADS.
	subscribed []string
}

func (d Decoder) begin() *decoding {
	c := &decoding{skipped: d.Skipped}
	if c.skipped == nil {
		c.skipped = func(string) {}
	}
	return c
}

// fail records that what is at p cannot be accepted.
func (c *decoding) fail(p *path, format string, args ...any) {
	if len(c.errs) >= maxErrors {
		return
	}
	c.errs = append(c.errs, failure{p, fmt.Errorf(format, args...)})
}

// failure is one thing that cannot be accepted.
type failure struct {
	at  *path
	err error
}

// end is the error of the resource, nil when all of it was accepted. Each failure names
// the objects that the part of m is made from, where the control plane said so.
func (c *decoding) end(kind, name string, m proto.Message) error {
	if len(c.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%s %q: %w", kind, name, joined(c.texts(m)))
}

// texts are the failures, with their place and, where m is given, their objects.
func (c *decoding) texts(m proto.Message) []error {
	errs := make([]error, len(c.errs))
	for i, f := range c.errs {
		errs[i] = f.err
		if at := f.at.String(); at != "" {
			errs[i] = fmt.Errorf("%s: %w", at, f.err)
		}
		if m == nil {
			continue
		}
		if objects := objectsAt(m.ProtoReflect(), f.at); len(objects) > 0 {
			errs[i] = fmt.Errorf("%w (%s)", errs[i], objectNames(objects))
		}
	}
	return errs
}

func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// typeName is the message name of a type URL.
func typeName(url string) protoreflect.FullName {
	return protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
}

// unpack parses a into m, which must be of its type, and checks m's fields.
func (c *decoding) unpack(p *path, a *anypb.Any, m proto.Message) bool {
	if a == nil {
		c.fail(p, "no configuration, want %s", m.ProtoReflect().Descriptor().FullName())
		return false
	}
	if want := m.ProtoReflect().Descriptor().FullName(); typeName(a.GetTypeUrl()) != want {
		c.fail(p, "type %q, want %s", clip(a.GetTypeUrl()), want)
		return false
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(a.GetValue(), m); err != nil {
		c.fail(p, "not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
		return false
	}
	return c.check(p, m.ProtoReflect())
}

// check walks the fields that are set in m: each must be one that the decoder uses
// (see fieldTable), one that is known to be cosmetic, or it is an error.
func (c *decoding) check(p *path, m protoreflect.Message) bool {
	d := m.Descriptor()
	known, ok := fieldTable[d.FullName()]
	if !ok {
		c.fail(p, "%s is not supported", d.FullName())
		return false
	}
	good := true
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		c.fail(p, "%s has fields that this version does not know (%d bytes)", d.FullName(), len(unknown))
		good = false
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch known[f.Name()] {
		case fieldUsed:
			good = c.checkValue(p, f, v) && good
		case fieldWhole:
		case fieldSkipped:
			c.skipped(string(f.FullName()))
		default:
			c.fail(p.field(string(f.Name())), "%s is not supported", valueText(f, v))
			good = false
		}
		return true
	})
	return good
}

// checkValue goes into a used field's messages. Well-known types and maps are left
// to the decoder of the field.
func (c *decoding) checkValue(p *path, f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	if f.Message() == nil || f.IsMap() || strings.HasPrefix(string(f.Message().FullName()), "google.protobuf.") {
		return true
	}
	if !f.IsList() {
		return c.check(p.field(string(f.Name())), v.Message())
	}
	good := true
	for i, l := 0, v.List(); i < l.Len(); i++ {
		good = c.check(p.at(string(f.Name()), i), l.Get(i).Message()) && good
	}
	return good
}

// valueText is a field's value for an error message, which goes to logs and to the control
// plane: nothing that is marked udpa.annotations.sensitive, as keys and passwords are.
func valueText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.IsMap() || f.IsList() || sensitive(f) || f.Message() != nil && hasSensitive(f.Message(), map[protoreflect.FullName]bool{}) {
		return fmt.Sprintf("%q", string(f.Name()))
	}
	switch {
	case f.Message() != nil:
		if a, ok := v.Message().Interface().(*anypb.Any); ok {
			return fmt.Sprintf("%q", clip(a.GetTypeUrl()))
		}
		text, err := prototext.MarshalOptions{}.Marshal(v.Message().Interface())
		if err != nil {
			return fmt.Sprintf("%q", string(f.Name()))
		}
		return "{" + clip(string(text)) + "}"
	case f.Enum() != nil:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
	}
	return fmt.Sprintf("%q", clip(v.String()))
}

func sensitive(f protoreflect.FieldDescriptor) bool {
	marked, ok := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return ok && marked
}

// hasSensitive says whether a message can have something sensitive; seen are those that were
// looked at.
func hasSensitive(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[m.FullName()] {
		return false
	}
	seen[m.FullName()] = true
	for i, all := 0, m.Fields(); i < all.Len(); i++ {
		f := all.Get(i)
		if sensitive(f) || f.Message() != nil && hasSensitive(f.Message(), seen) {
			return true
		}
	}
	return false
}

// clip bounds a foreign text for an error message.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// duration is d, or def where d is not set. Negative ones are an error.
func (c *decoding) duration(p *path, d *durationpb.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		c.fail(p, "%v is not a duration of zero or more", d.AsDuration())
		return def
	}
	return d.AsDuration()
}

// percent is an envoy.type.v3.Percent, or def where it is not set.
func (c *decoding) percent(p *path, v *typev3.Percent, def float64) float64 {
	if v == nil {
		return def
	}
	if n := v.GetValue(); n >= 0 && n <= 100 {
		return n
	}
	c.fail(p, "%v is not a percentage from 0 to 100", v.GetValue())
	return def
}

// port16 is a port number from 1 to 65535.
func (c *decoding) port16(p *path, n uint32) uint16 {
	if n < 1 || n > 65535 {
		c.fail(p, "%d is not a port", n)
		return 0
	}
	return uint16(n)
}
