package istioapi

import "crypto/sha256"

// Reader decodes the versions of one file, one after the other. Documents that are the
// same as in the version before are not parsed again, so that an edit costs what it
// edits, also in a file of thousands of objects. The zero value is ready for use.
type Reader struct {
	Rules Rules // set it before the first Decode, and leave it

	file string
	kept map[[sha256.Size]byte]keptDocument
}

// keptDocument is a document about which there was nothing to tell.
type keptDocument struct {
	objects []Object
	skip    int // lines before it
	nodes   int // that it took of the budget
}

// Decode is the function Decode for the next version of the file.
func (r *Reader) Decode(file string, data []byte) (Objects, []Problem) {
	if r.file != file {
		r.file, r.kept = file, nil
	}
	return decode(file, data, r.Rules, r)
}

// chunk reads the documents of a chunk, from kept where they are there and there is
// room in the budget, and adds them to next.
func (d *decoder) chunk(c chunk, kept, next map[[sha256.Size]byte]keptDocument) {
	key := sha256.Sum256(c.text)
	if k, ok := kept[key]; ok && k.nodes < d.budget && !d.exhausted {
		k = k.moved(c.skip, len(d.objects))
		d.budget -= k.nodes
		d.objects = append(d.objects, k.objects...)
		next[key] = k
		return
	}
	objects, problems, budget := len(d.objects), len(d.problems), d.budget
	d.meta = Meta{}
	for _, node := range d.parse(c) {
		d.offset = c.skip
		d.document(node, 0)
	}
	told := len(d.problems) > problems || len(d.problems) > maxProblems // then nothing more is told
	if !told && !d.exhausted && next != nil {
		next[key] = keptDocument{objects: d.objects[objects:len(d.objects):len(d.objects)], skip: c.skip, nodes: budget - d.budget}
	}
}

// moved is the document with other lines before it, and other objects. Objects are
// never written to: those that change are copied.
func (k keptDocument) moved(skip, order int) keptDocument {
	out := keptDocument{objects: make([]Object, len(k.objects)), skip: skip, nodes: k.nodes}
	for i, o := range k.objects {
		out.objects[i] = o
		lines := skip - k.skip
		if lines == 0 && o.Common().Order == order+i {
			continue
		}
		o = Copy(o)
		out.objects[i] = o
		meta := o.Common()
		meta.Order = order + i
		if lines != 0 {
			meta.Position.Line += lines
			meta.Lines = shifted(meta.Lines, lines)
		}
	}
	return out
}

func shifted(lines map[string]int, by int) map[string]int {
	out := make(map[string]int, len(lines))
	for path, line := range lines {
		out[path] = line + by
	}
	return out
}

// Copy is the object with a Meta of its own; the spec is shared.
func Copy(object Object) Object {
	switch t := object.(type) {
	case *ServiceEntry:
		return &ServiceEntry{t.Meta, t.Spec}
	case *Gateway:
		return &Gateway{t.Meta, t.Spec}
	case *VirtualService:
		return &VirtualService{t.Meta, t.Spec}
	case *DestinationRule:
		return &DestinationRule{t.Meta, t.Spec}
	case *Sidecar:
		return &Sidecar{t.Meta, t.Spec}
	case *WorkloadEntry:
		return &WorkloadEntry{t.Meta, t.Spec}
	case *PeerAuthentication:
		return &PeerAuthentication{t.Meta, t.Spec}
	case *Telemetry:
		return &Telemetry{t.Meta, t.Spec}
	case *Namespace:
		c := *t
		return &c
	case *MeshConfig:
		c := *t
		return &c
	}
	return object
}
