package admin

import (
	"fmt"
	"net/http"
	"regexp"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

const typePrefix = "type.googleapis.com/"

// section is one of the messages of a ConfigDump. Its elements are made one by one as
// they are written: a dump of ten thousand resources needs the memory of one.
type section struct {
	message proto.Message // the fields that are not lists; a fresh one
	lists   []list
}

// list is a repeated field of a section.
type list struct {
	field    protoreflect.Name
	elements []element
}

type element struct {
	name string
	make func() (proto.Message, error)
}

// selection is what a query of /config_dump asks for.
type selection struct {
	resource  string
	mask      mask
	maskText  string
	names     *regexp.Regexp // nil: all
	endpoints bool
}

func parseSelection(r *http.Request) (s selection, err error) {
	q := r.URL.Query()
	s.resource, s.maskText, s.endpoints = q.Get("resource"), q.Get("mask"), q.Has("include_eds")
	if s.maskText != "" {
		if s.mask, err = parseMask(s.maskText); err != nil {
			return s, refuse(http.StatusBadRequest, "%v", err)
		}
	}
	if s.names, err = parsePattern(q.Get("name_regex")); err != nil {
		return s, refuse(http.StatusBadRequest, "Error while parsing name_regex: %v", err)
	}
	return s, nil
}

// parsePattern reads an RE2 expression, which takes time that is linear in the text; ""
// is nil.
func parsePattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxPattern {
		return nil, fmt.Errorf("the expression has %d bytes, at most %d are possible", len(text), maxPattern)
	}
	return regexp.Compile(text)
}

func (a *Admin) configDump(w http.ResponseWriter, r *http.Request) error {
	s, err := parseSelection(r)
	if err != nil {
		return err
	}
	done, err := a.begin(r)
	if err != nil {
		return err
	}
	defer done()
	sections := a.sections(s)
	if s.resource != "" {
		return s.writeResource(w, sections)
	}
	return s.writeAll(w, sections)
}

// writeAll writes the sections that the mask has something of.
func (s selection) writeAll(w http.ResponseWriter, sections []section) error {
	var chosen []section
	for _, one := range sections {
		if len(s.mask) == 0 || s.mask.fits(one.message.ProtoReflect().Descriptor()) {
			chosen = append(chosen, one)
		}
	}
	if len(chosen) == 0 {
		return refuse(http.StatusBadRequest, "FieldMask %s could not be successfully applied to any configs.", s.maskText)
	}
	out := begin(w)
	for _, one := range chosen {
		if err := s.writeSection(out, one); err != nil {
			return abort(err)
		}
	}
	return abort(end(out))
}

func (s selection) writeSection(out *stream, one section) error {
	m := one.message
	if _, err := redact(m.ProtoReflect()); err != nil {
		return err
	}
	if err := s.mask.trim(m.ProtoReflect()); err != nil {
		return err
	}
	out.open("", "{")
	out.fields(typePrefix+string(m.ProtoReflect().Descriptor().FullName()), m)
	for _, l := range one.lists {
		if _, wanted := s.mask[string(l.field)]; len(s.mask) > 0 && !wanted || !s.any(l) {
			continue
		}
		out.open(string(l.field), "[")
		for _, e := range l.elements {
			if err := s.writeElement(out, e, nil, false); err != nil {
				return err
			}
		}
		out.close("]")
	}
	out.close("}")
	return out.err
}

// any reports whether a list has an element to write.
func (s selection) any(l list) bool {
	for _, e := range l.elements {
		if s.matches(e) {
			return true
		}
	}
	return false
}

func (s selection) matches(e element) bool { return s.names == nil || s.names.MatchString(e.name) }

// writeResource writes the elements of one list.
func (s selection) writeResource(w http.ResponseWriter, sections []section) error {
	for _, one := range sections {
		f := one.message.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(s.resource))
		if f == nil {
			continue
		}
		if !f.IsList() {
			return refuse(http.StatusBadRequest, "%s is not a repeated field. Use ?mask=%s to get only this field", s.resource, s.resource)
		}
		out := begin(w)
		for _, l := range one.lists {
			if string(l.field) != s.resource {
				continue
			}
			for _, e := range l.elements {
				if err := s.writeElement(out, e, s.mask, true); err != nil {
					return abort(err)
				}
			}
		}
		return abort(end(out))
	}
	return refuse(http.StatusNotFound, "%s not found in config dump", s.resource)
}

// writeElement makes and writes one element. typed: with its type, as an Any.
func (s selection) writeElement(out *stream, e element, keep mask, typed bool) error {
	if !s.matches(e) {
		return nil
	}
	m, err := e.make()
	if err != nil {
		return err
	}
	if _, err := redact(m.ProtoReflect()); err != nil {
		return err
	}
	if err := keep.trim(m.ProtoReflect()); err != nil {
		return err
	}
	if typed {
		if m, err = anypb.New(m); err != nil {
			return err
		}
	}
	out.message(m)
	return out.err
}

func begin(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/json")
	out := &stream{w: w}
	out.open("", "{")
	out.open("configs", "[")
	return out
}

func end(out *stream) error {
	out.close("]")
	out.close("}")
	out.write("\n")
	return out.err
}

// broken ends an answer that has begun: the client must not take half of it for the whole.
type broken struct{ error }

func abort(err error) error {
	if err == nil {
		return nil
	}
	return broken{err}
}

// sections are the parts of a dump, in Envoy's order.
func (a *Admin) sections(s selection) []section {
	bootstrap := &adminv3.BootstrapConfigDump{LastUpdated: timestamp(a.started)}
	proto.Merge(bootstrap, &adminv3.BootstrapConfigDump{Bootstrap: a.options.Bootstrap}) // a copy
	bootstrap.Bootstrap.Node = a.node()
	out := []section{{message: bootstrap}, a.clusterSection()}
	if s.endpoints {
		out = append(out, a.endpointSection())
	}
	return append(out, a.listenerSection(), a.routeSection(), a.secretSection())
}
