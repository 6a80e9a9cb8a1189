package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/anyjson"
)

// writeJSON writes one message, indented as Envoy does.
func writeJSON(w http.ResponseWriter, m proto.Message) error {
	data, err := anyjson.Marshal(m)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", " "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

// stream writes JSON piece by piece, so that a large answer is never in memory as a
// whole. Its first error sticks.
type stream struct {
	w     io.Writer
	depth int
	empty bool // nothing is in the innermost object or list yet
	err   error
}

func (s *stream) write(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.w, text)
	}
}

// next begins an element: a comma where there was one before, and a new line.
func (s *stream) next() {
	if !s.empty && s.depth > 0 {
		s.write(",")
	}
	if s.depth > 0 {
		s.write("\n" + strings.Repeat(" ", s.depth))
	}
	s.empty = false
}

// open begins an object or list, close ends it.
func (s *stream) open(key, bracket string) {
	s.next()
	if key != "" {
		s.write(quote(key) + ": ")
	}
	s.write(bracket)
	s.depth, s.empty = s.depth+1, true
}

func (s *stream) close(bracket string) {
	s.depth--
	if !s.empty {
		s.write("\n" + strings.Repeat(" ", s.depth))
	}
	s.empty = false
	s.write(bracket)
}

// message writes a message as an element of a list.
func (s *stream) message(m proto.Message) {
	if s.err != nil {
		return
	}
	data, err := anyjson.Marshal(m)
	if err != nil {
		s.err = err
		return
	}
	s.next()
	var out bytes.Buffer
	if s.err = json.Indent(&out, data, strings.Repeat(" ", s.depth), " "); s.err == nil {
		s.write(out.String())
	}
}

// fields writes a type and the fields of a message into the object that is open.
func (s *stream) fields(typeURL string, m proto.Message) {
	s.next()
	s.write(`"@type": ` + quote(typeURL))
	if s.err != nil {
		return
	}
	data, err := anyjson.Marshal(m)
	if err != nil {
		s.err = err
		return
	}
	var all map[string]json.RawMessage
	if s.err = json.Unmarshal(data, &all); s.err != nil {
		return
	}
	known := m.ProtoReflect().Descriptor().Fields()
	for i := range known.Len() {
		name := string(known.Get(i).Name())
		if all[name] == nil {
			continue
		}
		s.next()
		var out bytes.Buffer
		if s.err = json.Indent(&out, all[name], strings.Repeat(" ", s.depth), " "); s.err != nil {
			return
		}
		s.write(quote(name) + ": " + out.String())
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
