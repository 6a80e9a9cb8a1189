package stage

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// Outer is the plan of the outer stage.
type Outer struct {
	UID, GID int // that the command has in its own user namespace
	Requests []netns.Request
	Sysctls  []Sysctl
	Sockets  []Socket
	// PacketLog are the messages that bind the socket of the packet log; nil: no log.
	PacketLog [][]byte
	Mounts    []Op
}

// Sysctl is a value of the network namespace; failing to write it is not an error.
type Sysctl struct{ Path, Value string }

// Socket is a listening socket to be opened in the network namespace.
type Socket struct {
	Name   string // under which it is handed out
	IPv6   bool
	Packet bool // UDP, else TCP
	Port   int  // at the loopback address of the family
}

// PacketLogName is the name under which the packet log's socket is handed out.
const PacketLogName = "packet-log"

// OpKind is what an Op does.
type OpKind int

// Kinds of mount operations. Paths are absolute and free of symbolic links.
const (
	OpPrivate OpKind = 1 + iota // stop all mount propagation
	OpLift                      // keep the tree at Path in a slot named Source, before it is hidden
	OpPlace                     // mount the tree of the slot Source at Path
	OpMount                     // mount a new file system: Type, Data, Flags
	OpBind                      // mount the tree at Source at Path
	OpSet                       // set the mount attributes Flags (MOUNT_ATTR_*) on the tree at Path
	OpSetOne                    // the same on the mount at Path only
	OpMkdir                     // make the folder and those above it; Mode
	OpFile                      // make the file, with the content Data; Mode
	OpSymlink                   // make a symbolic link to Source
	OpRemove                    // remove the file or empty folder
)

// Op is one step of arranging the mounts.
type Op struct {
	Kind         OpKind
	Path, Source string
	Type, Data   string
	Flags        int
	Mode         int
	// Optional: that Path or Source is not there, or may not be reached, is no error.
	Optional bool
}

func (o Op) String() string {
	switch o.Kind {
	case OpPrivate:
		return "make mounts private"
	case OpLift:
		return fmt.Sprintf("keep %q", o.Path)
	case OpPlace:
		return fmt.Sprintf("place %q at %q", o.Source, o.Path)
	case OpMount:
		return fmt.Sprintf("mount %s on %q", o.Type, o.Path)
	case OpBind:
		return fmt.Sprintf("mount %q at %q", o.Source, o.Path)
	case OpSet, OpSetOne:
		return fmt.Sprintf("restrict the mount %q", o.Path)
	case OpMkdir, OpFile, OpSymlink:
		return fmt.Sprintf("make %q", o.Path)
	case OpRemove:
		return fmt.Sprintf("remove %q", o.Path)
	}
	return fmt.Sprintf("operation %d", o.Kind)
}

// Inner is the plan of the inner stage.
type Inner struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	// Seccomp is the filter: struct sock_filter, one after the other; nil: none.
	Seccomp []byte
	// OwnGroup: the command gets a process group of its own.
	OwnGroup bool
}

// Encode gives the plan's bytes.
func (o *Outer) Encode() []byte {
	e := &encoder{}
	e.number(o.UID)
	e.number(o.GID)
	e.number(len(o.Requests))
	for _, r := range o.Requests {
		e.string(r.Name)
		e.number(r.Protocol)
		e.bytes(r.Data)
		e.bool(r.Optional)
		e.bytes(r.Fallback)
	}
	e.number(len(o.Sysctls))
	for _, s := range o.Sysctls {
		e.string(s.Path)
		e.string(s.Value)
	}
	e.number(len(o.Sockets))
	for _, s := range o.Sockets {
		e.string(s.Name)
		e.bool(s.IPv6)
		e.bool(s.Packet)
		e.number(s.Port)
	}
	e.number(len(o.PacketLog))
	for _, m := range o.PacketLog {
		e.bytes(m)
	}
	e.number(len(o.Mounts))
	for _, m := range o.Mounts {
		m.encode(e)
	}
	return e.b
}

func (o Op) encode(e *encoder) {
	e.number(int(o.Kind))
	e.strings([]string{o.Path, o.Source, o.Type, o.Data})
	e.number(o.Flags)
	e.number(o.Mode)
	e.bool(o.Optional)
}

// DecodeOuter reads what Encode wrote.
func DecodeOuter(b []byte) (*Outer, error) {
	d := &decoder{b: b}
	o := &Outer{UID: d.number(), GID: d.number()}
	for range d.count() {
		o.Requests = append(o.Requests, netns.Request{
			Name: d.string(), Protocol: d.number(), Data: d.bytes(), Optional: d.bool(), Fallback: d.bytes(),
		})
	}
	for range d.count() {
		o.Sysctls = append(o.Sysctls, Sysctl{Path: d.string(), Value: d.string()})
	}
	for range d.count() {
		o.Sockets = append(o.Sockets, Socket{Name: d.string(), IPv6: d.bool(), Packet: d.bool(), Port: d.number()})
	}
	for range d.count() {
		o.PacketLog = append(o.PacketLog, d.bytes())
	}
	for range d.count() {
		o.Mounts = append(o.Mounts, decodeOp(d))
	}
	return o, d.finish()
}

func decodeOp(d *decoder) Op {
	o := Op{Kind: OpKind(d.number())}
	if s := d.strings(); len(s) == 4 {
		o.Path, o.Source, o.Type, o.Data = s[0], s[1], s[2], s[3]
	} else {
		d.b, d.err = nil, errCut
	}
	o.Flags, o.Mode, o.Optional = d.number(), d.number(), d.bool()
	return o
}

// Encode gives the plan's bytes.
func (i *Inner) Encode() []byte {
	e := &encoder{}
	e.string(i.Path)
	e.strings(i.Args)
	e.strings(i.Env)
	e.string(i.Dir)
	e.bytes(i.Seccomp)
	e.bool(i.OwnGroup)
	return e.b
}

// DecodeInner reads what Encode wrote.
func DecodeInner(b []byte) (*Inner, error) {
	d := &decoder{b: b}
	i := &Inner{Path: d.string(), Args: d.strings(), Env: d.strings(), Dir: d.string(), Seccomp: d.bytes(), OwnGroup: d.bool()}
	return i, d.finish()
}

// Failure is an error of a stage as egret gets it.
type Failure struct {
	Stage string // OuterName or InnerName
	Text  string
	Errno unix.Errno // 0: none
	// Command: it was the command that could not be started (Errno says why), not the
	// sandbox.
	Command bool
}

func (f *Failure) Error() string { return f.Text }

func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// commandError marks that the command could not be started.
type commandError struct{ err error }

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// EncodeFailure gives the payload of a FrameError.
func EncodeFailure(stage string, err error) []byte {
	var errno unix.Errno
	errors.As(err, &errno)
	var command *commandError
	e := &encoder{}
	e.string(stage)
	e.string(err.Error())
	e.number(int(errno))
	e.bool(errors.As(err, &command))
	return e.b
}

// DecodeFailure reads the payload of a FrameError.
func DecodeFailure(b []byte) (*Failure, error) {
	d := &decoder{b: b}
	f := &Failure{Stage: d.string(), Text: d.string(), Errno: unix.Errno(d.number()), Command: d.bool()}
	return f, d.finish()
}
