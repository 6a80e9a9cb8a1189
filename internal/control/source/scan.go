package source

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// file is what is known of one file.
type file struct {
	root     *root
	path     string
	id       identity
	readAt   time.Time
	sum      [sha256.Size]byte
	failed   string // why it could not be read the last time
	objects  []istioapi.Object
	problems []istioapi.Problem
	reader   *istioapi.Reader
}

// racy is how near to its reading a file's change time may be without a later
// change being missed: the kernel's clock for files ticks every few milliseconds.
const racy = 50 * time.Millisecond

// scan looks at every file and reads those that changed. When anything is new it
// publishes a State.
func (s *Watcher) scan(first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	look := &look{source: s, changed: first, seen: make(map[identity]bool), present: make(map[string]bool)}
	for _, r := range s.roots {
		look.root(r)
	}
	for path := range s.files {
		if !look.present[path] {
			delete(s.files, path)
			look.changed = true
		}
	}
	if told := fmt.Sprint(look.problems); told != s.rootErrors {
		s.rootErrors, look.changed = told, true
	}
	s.links = look.links
	s.protect = look.protected.sorted()
	if look.changed {
		s.publish(s.assemble(look.problems))
	}
}

// assemble makes the State of the files as they are known.
func (s *Watcher) assemble(problems []istioapi.Problem) *State {
	files := make([]*file, 0, len(s.files))
	for _, f := range s.files {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *file) int { return cmp.Compare(a.path, b.path) })
	var all []istioapi.Object
	for _, f := range files {
		problems = append(problems, f.problems...)
		for _, o := range f.objects {
			all = append(all, withOrder(o, len(all)))
		}
	}
	objects, duplicates := istioapi.Unique(slices.Values(all))
	problems = append(problems, duplicates...)
	istioapi.Sort(problems)
	state := &State{Objects: objects, Problems: problems, Sequence: 1}
	if last := s.current.Load(); last != nil {
		state.Sequence = last.Sequence + 1
	}
	s.options.Logger.Debug("read objects", "sequence", state.Sequence, "files", len(files), "objects", objects.Len(), "problems", len(problems))
	return state
}

// look is one scan under way.
type look struct {
	source    *Watcher
	changed   bool
	seen      map[identity]bool // files read already under another path
	present   map[string]bool
	problems  []istioapi.Problem
	links     []string
	protected protectedSet
}

func (l *look) problem(severity istioapi.Severity, code, path, format string, args ...any) {
	l.problems = append(l.problems, istioapi.Problem{
		Severity: severity, Code: code, Position: istioapi.Position{File: path}, Message: fmt.Sprintf(format, args...),
	})
}

func (l *look) root(r *root) {
	l.protected.directory(r.self, r.base != "")
	if info, err := r.self.Stat(); err == nil && r.base == "" && gone(info) {
		l.problem(istioapi.Error, CodeGone, r.path, "the directory was removed, and its objects with it; another one in its place is not read until egret is started again")
		return
	}
	names, folders, err := r.names()
	if err != nil {
		l.problem(istioapi.Error, CodeUnreadable, r.path, "cannot read the directory: %v; the last good version of its objects stays in force", err)
		for path, f := range l.source.files {
			l.present[path] = l.present[path] || f.root == r
		}
		return
	}
	for _, name := range folders {
		l.problem(istioapi.Info, CodeSkipped, r.display(name), "is a folder: not read; give it as a path of its own")
	}
	if r.empty = len(names) == 0; r.empty {
		l.problem(istioapi.Warning, CodeEmpty, r.path, "%s", emptyMessage(r, folders))
	}
	for _, name := range names {
		l.file(r, name)
	}
	r.unpin(names)
}

// emptyMessage says that a directory has nothing to read, and what may be meant.
func emptyMessage(r *root, folders []string) string {
	const message = "there is no *.yaml, *.yml or *.json file in this folder"
	switch len(folders) {
	case 0:
		return message
	case 1:
		return message + "; the folder in it is not read, give it as a path of its own: " + r.display(folders[0])
	}
	return fmt.Sprintf("%s; the %d folders in it are not read, give each as a path of its own: %s, ...", message, len(folders), r.display(folders[0]))
}

func gone(info fs.FileInfo) bool {
	_, st := identify(info)
	return st.Nlink == 0
}

func (l *look) file(r *root, name string) {
	path := r.display(name)
	if l.present[path] {
		return // the same path was given twice
	}
	f, target, err := r.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if r.base != "" {
			l.problem(istioapi.Error, CodeGone, path, "the file was removed, and its objects with it")
		}
		return
	}
	l.present[path] = true
	if err != nil {
		l.unreadable(r, path, err)
		return
	}
	defer func() { _ = f.Close() }()
	l.protected.file(f, target)
	info, err := f.Stat()
	if err != nil {
		l.unreadable(r, path, err)
		return
	}
	id, st := identify(info)
	same := identity{dev: id.dev, ino: id.ino}
	if first, known := r.first[name]; !known {
		r.first[name] = same
	} else if first != same && (r.base != "" || target != nil) && !l.source.trusted(f) {
		l.unreadable(r, path, errReplaced)
		return
	}
	if l.seen[same] {
		delete(l.source.files, path) // read already under another path
		return
	}
	l.seen[same] = true
	if st.Nlink > 1 && writable(f, st.Uid) {
		real, _ := where(f)
		l.links = append(l.links, real)
		l.problem(istioapi.Warning, CodeHardLinked, path, "the file has %d names (hard links): it can be changed through each of them, also where this one is write-protected", st.Nlink)
	}
	known := l.source.files[path]
	now := time.Now()
	if known != nil && known.failed == "" && known.id == id && time.Unix(id.ctime.Unix()).Add(racy).Before(known.readAt) {
		return
	}
	data, err := io.ReadAll(io.LimitReader(f, istioapi.MaxFileSize+1))
	if err != nil {
		l.unreadable(r, path, err)
		return
	}
	l.contents(r, path, id, now, data)
}

var errReplaced = errors.New("another file has taken its place (many editors save so), which the command could have put there itself; start egret again, and keep the YAML in a folder of its own to edit it while a command runs (-f FOLDER)")

// writable reports whether this user could write the file, now or after chmod.
func writable(f *os.File, uid uint32) bool {
	err := unix.Access(descriptorPath(f), unix.W_OK)
	return err == nil || (errors.Is(err, unix.EACCES) && int(uid) == os.Geteuid())
}

// unreadable keeps what was read before.
func (l *look) unreadable(r *root, path string, err error) {
	known := l.source.files[path]
	if known == nil {
		known = &file{root: r, path: path}
		l.source.files[path] = known
	}
	if known.failed == err.Error() {
		return
	}
	known.failed, l.changed = err.Error(), true
	message := fmt.Sprintf("cannot read the file: %v", err)
	if len(known.objects) > 0 {
		message += "; the last good version of its objects stays in force"
	}
	known.problems = []istioapi.Problem{{
		Severity: istioapi.Error, Code: CodeUnreadable, Position: istioapi.Position{File: path}, Message: message,
	}}
}

// contents takes what a file has now.
func (l *look) contents(r *root, path string, id identity, now time.Time, data []byte) {
	sum := sha256.Sum256(data)
	known := l.source.files[path]
	if known != nil && known.failed == "" && known.sum == sum {
		known.id, known.readAt = id, now
		return
	}
	var before []istioapi.Object
	reader := &istioapi.Reader{}
	if known != nil {
		before = known.objects
		reader = cmp.Or(known.reader, reader) // it has none where the file could not be read at first
	}
	decoded, problems := reader.Decode(path, bytes.Clone(data))
	objects := slices.SortedFunc(decoded.All(), func(a, b istioapi.Object) int {
		return cmp.Compare(a.Common().Order, b.Common().Order)
	})
	objects, problems = keepLastGood(before, objects, problems)
	l.source.files[path] = &file{root: r, path: path, id: id, readAt: now, sum: sum, objects: objects, problems: problems, reader: reader}
	l.changed = true
}

const staysInForce = "; the last good version stays in force"

// keepLastGood adds to the objects of a file those of before that have an error
// now, and tells so. An error that cannot be laid to one object (the text is not
// YAML, the kind is unknown) may be any of those that are missing now: all are kept.
func keepLastGood(before, now []istioapi.Object, problems []istioapi.Problem) ([]istioapi.Object, []istioapi.Problem) {
	present := make(map[istioapi.Ref]bool, len(now))
	for _, o := range now {
		present[o.Common().Ref] = true
	}
	missing := slices.DeleteFunc(slices.Clone(before), func(o istioapi.Object) bool { return present[o.Common().Ref] })
	if len(missing) == 0 {
		return now, problems
	}
	kept := make(map[istioapi.Ref]bool)
	for i, p := range problems {
		if p.Severity != istioapi.Error || p.Code == istioapi.CodeDuplicateObject {
			continue
		}
		found := false
		for _, o := range missing {
			if ref := o.Common().Ref; !identified(p) || sameObject(p.Object, ref) {
				kept[ref], found = true, true
			}
		}
		if found {
			problems[i].Message += staysInForce
		}
	}
	for _, o := range missing {
		if kept[o.Common().Ref] {
			now = append(now, o)
		}
	}
	return now, problems
}

// identified is false for a problem that may be about any object of the file.
func identified(p istioapi.Problem) bool {
	return p.Object.Name != "" && p.Code != istioapi.CodeUnknownKind && p.Code != istioapi.CodeTooLarge &&
		p.Code != istioapi.CodeSyntax && p.Field != "kind" && p.Field != "apiVersion"
}

// sameObject compares with what a problem knows of its object's name.
func sameObject(told, ref istioapi.Ref) bool {
	return told.Kind == ref.Kind && told.Name == ref.Name && (told.Namespace == "" || told.Namespace == ref.Namespace)
}
