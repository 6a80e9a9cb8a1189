package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// hiddenFolders are where sockets of the machine's services live: through them a
// command could have something done outside. Patterns; "~" is the home folder.
var hiddenFolders = []string{
	"/run", "/var/run", // D-Bus, systemd, container engines, name services, the user's own services
	"/tmp/.X11-unix", "/tmp/.ICE-unix", "/tmp/.XIM-unix", "/tmp/.font-unix", // display
	"/tmp/ssh-*", "~/.ssh/agent", // ssh-agent
	"/tmp/tmux-*", "/tmp/screens", "/tmp/uscreens", // terminal multiplexers
	"/tmp/dbus-*", "/tmp/emacs*", "/tmp/vscode-*",
	"~/.docker/run", "~/.docker/desktop", "~/.colima", "~/.lima", "~/.rd", // container engines
	"/var/lib/docker", "/var/lib/containerd", "/var/lib/lxd", "/var/snap/lxd/common/lxd", "/var/lib/incus",
	"/var/lib/sss/pipes", // name service with its own resolver
}

// hiddenFiles are sockets in folders that have other things too.
var hiddenFiles = []string{"~/.gnupg/S.*", "/tmp/.s.PGSQL.*", "/tmp/mysql*.sock"}

// exposedAlways are parts of hidden folders that are no sockets and that systems
// cannot do without (NixOS keeps its programs there).
var exposedAlways = []string{"/run/current-system", "/run/booted-system", "/run/opengl-driver"}

// kernelFileSystems show or steer the machine. They are used at their usual place
// only, which has its own treatment.
var kernelFileSystems = []string{
	"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf", "configfs",
}

const (
	scratch     = "/dev/.egret" // gone when the command starts
	scratchNone = scratch + "/none"
	scratchConf = scratch + "/resolv.conf"

	quiet = unix.MS_NOSUID | unix.MS_NODEV
)

// facts is what the mount plan is made from.
type facts struct {
	view     view
	mounts   []mount
	sockets  []string // paths that may be sockets
	uid      int
	terminal string // device of the command's terminal; "" for none
}

// mountPlan makes the operations that turn the machine's mounts into the command's.
// All of it is done in the sandbox's outer user namespace; the command's mount
// namespace belongs to a lesser one, where the kernel locks what is inherited.
type mountPlan struct {
	facts
	spec    *Spec
	ops     []stage.Op
	hidden  []string // folders, without links, none below another
	exposed []string // below hidden folders or /dev, lifted before they are hidden
	bound   map[string]bool
}

func planMounts(spec *Spec, f facts) ([]stage.Op, error) {
	p := &mountPlan{facts: f, spec: spec, bound: map[string]bool{}}
	if err := p.choose(); err != nil {
		return nil, err
	}
	p.add(stage.Op{Kind: stage.OpPrivate, Path: "/"})
	p.liftDevices()
	// Without set-uid bits and file capabilities no_new_privs costs nothing (a program
	// with file capabilities could not be started otherwise); without device nodes
	// root cannot reach disks through a node elsewhere.
	p.add(stage.Op{Kind: stage.OpSet, Path: "/", Flags: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	p.lift(func(path string) bool { return !below(path, "/dev") })
	p.makeDev()
	p.hide()
	p.placeExposed()
	p.maskSockets()
	p.maskKernel()
	if err := p.protect(); err != nil {
		return nil, err
	}
	p.makeSys()
	p.makeResolver()
	p.finishDev()
	return p.ops, nil
}

func (p *mountPlan) add(ops ...stage.Op) { p.ops = append(p.ops, ops...) }

// choose decides which folders are hidden and what of them stays.
func (p *mountPlan) choose() error {
	var explicit []string
	for _, e := range p.spec.Expose {
		path, err := p.view.resolve(e)
		if err != nil {
			return fmt.Errorf("expose %q: %w", e, err)
		}
		explicit = append(explicit, path)
	}
	p.chooseHidden(explicit)
	for _, path := range append(explicit, p.needed()...) {
		hider, ok := p.hider(path)
		if ok && hider != path && !slices.Contains(p.exposed, path) {
			p.exposed = append(p.exposed, path)
		}
	}
	slices.Sort(p.exposed)
	return nil
}

func (p *mountPlan) chooseHidden(explicit []string) {
	patterns := append(slices.Clone(hiddenFolders), p.spec.Hide...)
	for _, path := range p.find(patterns) {
		real, err := p.view.resolve(path)
		if err != nil || p.view.kind(real) != folder || real == "/" {
			continue
		}
		if fixed := slices.Contains(patterns, path); real != path && !fixed {
			continue // a link that somebody has put there
		}
		if slices.ContainsFunc(explicit, func(e string) bool { return below(real, e) }) {
			continue
		}
		p.hidden = append(p.hidden, real)
	}
	p.hidden = outermost(p.hidden)
}

// find gives the paths that match the patterns.
func (p *mountPlan) find(patterns []string) []string {
	var found []string
	for _, pattern := range patterns {
		if pattern[0] == '~' {
			if p.spec.Home == "" {
				continue
			}
			pattern = p.spec.Home + pattern[1:]
		}
		found = append(found, p.view.glob(pattern)...)
	}
	return found
}

// needed are the paths that the command cannot do without, although they may lie
// below a hidden folder: where it works, and where its program is.
func (p *mountPlan) needed() []string {
	var paths []string
	for _, path := range []string{p.spec.Dir, filepath.Dir(p.spec.Path), p.spec.Path} {
		if real, err := p.view.resolve(path); err == nil {
			paths = append(paths, real)
		}
	}
	for _, path := range exposedAlways {
		if p.view.kind(path) != absent {
			paths = append(paths, path)
		}
	}
	return paths
}

// hider is the hidden folder that path is in.
func (p *mountPlan) hider(path string) (string, bool) {
	for _, h := range append([]string{"/dev"}, p.hidden...) {
		if below(path, h) {
			return h, true
		}
	}
	return "", false
}

// visible says whether the command sees path.
func (p *mountPlan) visible(path string) bool {
	_, hidden := p.hider(path)
	return !hidden || slices.ContainsFunc(p.exposed, func(e string) bool { return below(path, e) })
}

// outermost drops paths below others and repetitions.
func outermost(paths []string) []string {
	slices.SortFunc(paths, func(a, b string) int { return len(a) - len(b) })
	var kept []string
	for _, path := range paths {
		if !slices.ContainsFunc(kept, func(k string) bool { return below(path, k) }) {
			kept = append(kept, path)
		}
	}
	slices.Sort(kept)
	return kept
}

// lift keeps exposed trees before something is mounted above them.
func (p *mountPlan) lift(want func(string) bool) {
	for _, path := range p.exposed {
		if want(path) && p.view.kind(path) != link {
			p.add(stage.Op{Kind: stage.OpLift, Path: path, Source: path})
		}
	}
}

func (p *mountPlan) hide() {
	for _, path := range p.hidden {
		paths := []string{path}
		for _, a := range aliases(p.mounts, path) {
			if p.view.kind(a.path) == folder && p.view.same(a.path, a.of) && !slices.Contains(paths, a.path) {
				paths = append(paths, a.path)
			}
		}
		for _, at := range paths {
			p.add(stage.Op{Kind: stage.OpMount, Path: at, Type: "tmpfs", Flags: quiet, Data: "mode=0755", Optional: true})
		}
	}
	if slices.Contains(p.hidden, "/run") {
		p.add(
			stage.Op{Kind: stage.OpMkdir, Path: "/run/lock", Mode: 0o1777},
			stage.Op{Kind: stage.OpMkdir, Path: "/run/user/" + strconv.Itoa(p.uid), Mode: 0o700})
	}
}

func (p *mountPlan) placeExposed() {
	for _, path := range p.exposed {
		p.add(stage.Op{Kind: stage.OpMkdir, Path: filepath.Dir(path)})
		switch p.view.kind(path) {
		case link:
			if target, err := p.view.readlink(path); err == nil {
				p.add(stage.Op{Kind: stage.OpSymlink, Path: path, Source: target})
			}
			continue
		case folder:
			p.add(stage.Op{Kind: stage.OpMkdir, Path: path})
		default:
			p.add(stage.Op{Kind: stage.OpFile, Path: path, Mode: 0o644})
		}
		p.add(stage.Op{Kind: stage.OpPlace, Path: path, Source: path})
	}
}

// maskSockets covers every socket that the command could still see.
func (p *mountPlan) maskSockets() {
	candidates := append(slices.Clone(p.sockets), p.find(append(slices.Clone(hiddenFiles), p.spec.Hide...))...)
	done := map[string]bool{}
	mask := func(path string) {
		if done[path] || !p.visible(path) {
			return
		}
		done[path] = true
		p.add(stage.Op{Kind: stage.OpBind, Path: path, Source: scratchNone, Optional: true})
	}
	for _, c := range candidates {
		path, err := p.view.resolve(c)
		if err != nil || p.asked(path) {
			continue
		}
		if k := p.view.kind(path); k != socket && (k != file || !slices.Contains(p.spec.Hide, c)) {
			continue
		}
		mask(path)
		for _, a := range aliases(p.mounts, path) {
			if p.view.same(a.path, a.of) {
				mask(a.path)
			}
		}
	}
}

// asked says whether the user asked to have path in the sandbox.
func (p *mountPlan) asked(path string) bool {
	return slices.ContainsFunc(p.spec.Expose, func(e string) bool {
		real, err := p.view.resolve(e)
		return err == nil && below(path, real)
	})
}

func (p *mountPlan) maskKernel() {
	for _, m := range p.mounts {
		usual := below(m.point, "/proc") || below(m.point, "/sys") || below(m.point, "/dev")
		if usual || !slices.Contains(kernelFileSystems, m.fsType) || !p.visible(m.point) {
			continue
		}
		if p.view.kind(m.point) == folder {
			p.add(stage.Op{Kind: stage.OpMount, Path: m.point, Type: "tmpfs", Flags: quiet | unix.MS_RDONLY, Data: "mode=0755", Optional: true})
		}
	}
}
