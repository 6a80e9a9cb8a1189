package sandbox

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// devices of the private /dev.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// console is the name under which the command's terminal is in the private /dev, so
// that ttyname(3) finds it.
const console = "/dev/console"

func (p *mountPlan) liftDevices() {
	for _, name := range devices {
		if path := "/dev/" + name; p.view.kind(path) == device {
			p.add(stage.Op{Kind: stage.OpLift, Path: path, Source: path})
		}
	}
	if p.terminal != "" {
		p.add(stage.Op{Kind: stage.OpLift, Path: p.terminal, Source: console})
	}
	p.lift(func(path string) bool { return below(path, "/dev") })
}

// makeDev makes a private /dev: disks, memory, other terminals and the shared memory
// of other processes are not in it. Pseudo-terminals are an instance of their own.
func (p *mountPlan) makeDev() {
	p.add(stage.Op{Kind: stage.OpMount, Path: "/dev", Type: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "mode=0755"})
	place := func(path string) {
		p.add(
			stage.Op{Kind: stage.OpFile, Path: path, Mode: 0o666},
			stage.Op{Kind: stage.OpPlace, Path: path, Source: path})
	}
	for _, name := range devices {
		if path := "/dev/" + name; p.view.kind(path) == device {
			place(path)
		}
	}
	if p.terminal != "" {
		place(console)
	}
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
	} {
		p.add(stage.Op{Kind: stage.OpSymlink, Path: "/dev/" + l[0], Source: l[1]})
	}
	p.add(
		stage.Op{Kind: stage.OpMkdir, Path: "/dev/pts"},
		stage.Op{Kind: stage.OpMount, Path: "/dev/pts", Type: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620"},
		stage.Op{Kind: stage.OpMkdir, Path: "/dev/shm"},
		stage.Op{Kind: stage.OpMount, Path: "/dev/shm", Type: "tmpfs", Flags: quiet, Data: "mode=1777"},
		stage.Op{Kind: stage.OpMkdir, Path: scratch},
		stage.Op{Kind: stage.OpFile, Path: scratchNone},
		stage.Op{Kind: stage.OpFile, Path: scratchConf, Mode: 0o644, Data: p.resolvConf()})
}

func (p *mountPlan) finishDev() {
	p.add(
		stage.Op{Kind: stage.OpRemove, Path: scratchNone},
		stage.Op{Kind: stage.OpRemove, Path: scratchConf},
		stage.Op{Kind: stage.OpRemove, Path: scratch},
		stage.Op{Kind: stage.OpSetOne, Path: "/dev", Flags: unix.MOUNT_ATTR_RDONLY})
}

// makeSys makes /sys read-only: root, who may be the user, could steer the machine.
func (p *mountPlan) makeSys() {
	if p.view.kind("/sys") != folder {
		return
	}
	if !isMountPoint(p.mounts, "/sys") {
		p.add(stage.Op{Kind: stage.OpBind, Path: "/sys", Source: "/sys"})
	}
	p.add(stage.Op{Kind: stage.OpSet, Path: "/sys", Flags: unix.MOUNT_ATTR_RDONLY})
}

// makeResolver mounts the sandbox's own resolv.conf. Where the file is a link into a
// hidden folder (systemd-resolved) it is made there. Without a resolv.conf resolvers
// use 127.0.0.1, which is captured too.
func (p *mountPlan) makeResolver() {
	target, err := p.view.resolve("/etc/resolv.conf")
	if err != nil {
		return
	}
	if p.visible(target) {
		p.add(stage.Op{Kind: stage.OpBind, Path: target, Source: scratchConf})
		return
	}
	folder := target[:strings.LastIndexByte(target, '/')]
	p.add(
		stage.Op{Kind: stage.OpMkdir, Path: folder},
		stage.Op{Kind: stage.OpFile, Path: target, Mode: 0o644, Data: p.resolvConf()})
}

// resolvConf is resolv.conf(5).
func (p *mountPlan) resolvConf() string {
	text := "nameserver " + address4.String() + "\n"
	if len(p.spec.Search) > 0 {
		text += "search " + strings.Join(p.spec.Search, " ") + "\n"
	}
	if len(p.spec.ResolverOptions) > 0 {
		text += "options " + strings.Join(p.spec.ResolverOptions, " ") + "\n"
	}
	return text
}
