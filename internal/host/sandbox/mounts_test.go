package sandbox

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// imagined is a file system that is only described: kinds by path, and links.
type imagined struct {
	kinds  map[string]kind
	links  map[string]string
	locked []string // folders that the user cannot write
}

func (v imagined) kind(path string) kind {
	if _, ok := v.links[path]; ok {
		return link
	}
	return v.kinds[path]
}

func (v imagined) resolve(path string) (string, error) {
	for from, to := range v.links {
		if below(path, from) {
			return v.resolve(filepath.Join(to, relative(path, from)))
		}
	}
	if v.kinds[path] == absent {
		return "", fs.ErrNotExist
	}
	return path, nil
}

func (v imagined) readlink(path string) (string, error) { return v.links[path], nil }

func (v imagined) glob(pattern string) []string {
	var found []string
	for path := range v.kinds {
		if ok, _ := filepath.Match(pattern, path); ok {
			found = append(found, path)
		}
	}
	for path := range v.links {
		if ok, _ := filepath.Match(pattern, path); ok {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}

func (v imagined) same(a, b string) bool       { return v.kinds[a] != absent && v.kinds[b] != absent }
func (v imagined) writable(folder string) bool { return !slices.Contains(v.locked, folder) }

func machineOf(kinds map[string]kind) imagined {
	v := imagined{kinds: kinds, links: map[string]string{}, locked: []string{"/", "/home"}}
	for path := range kinds {
		for dir := filepath.Dir(path); v.kinds[dir] == absent; dir = filepath.Dir(dir) {
			v.kinds[dir] = folder
		}
	}
	v.kinds["/"] = folder
	return v
}

var rootMount = mount{device: "8:1", root: "/", point: "/", fsType: "ext4"}

// sketch writes operations as "verb path", without those that every plan has.
func sketch(ops []stage.Op) []string {
	verbs := map[stage.OpKind]string{
		stage.OpLift: "lift", stage.OpPlace: "place", stage.OpMount: "mount", stage.OpBind: "bind",
		stage.OpSet: "set", stage.OpMkdir: "mkdir", stage.OpFile: "file", stage.OpSymlink: "symlink",
	}
	var lines []string
	for _, o := range ops {
		verb := verbs[o.Kind]
		usual := verb == "" || o.Path == "/" || below(o.Path, "/dev") && o.Kind != stage.OpLift && o.Kind != stage.OpPlace || below(o.Path, "/sys")
		if usual {
			continue
		}
		switch {
		case o.Kind == stage.OpBind && o.Source == scratchNone:
			verb = "mask"
		case o.Kind == stage.OpBind && o.Source == o.Path:
			verb = "pin"
		case o.Kind == stage.OpSet && o.Flags == unix.MOUNT_ATTR_RDONLY:
			verb = "read-only"
		}
		lines = append(lines, verb+" "+o.Path)
	}
	return lines
}

func TestMountPlan(t *testing.T) {
	for _, c := range []struct {
		name    string
		kinds   map[string]kind
		links   map[string]string
		mounts  []mount
		sockets []string
		spec    Spec
		want    string
	}{
		{
			name:  "a folder of policy in the home folder",
			kinds: map[string]kind{"/home/u/p/policy": folder},
			spec:  Spec{ReadOnly: []string{"/home/u/p/policy"}},
			want:  "pin /home/u/p; pin /home/u/p/policy; read-only /home/u/p/policy",
		},
		{
			name:   "the same file system mounted again, in part and in whole",
			kinds:  map[string]kind{"/home/u/p/policy/sub": folder, "/mnt/all/home/u/p/policy/sub": folder, "/mnt/p/policy/sub": folder, "/mnt/sub": folder},
			mounts: []mount{{"8:1", "/", "/mnt/all", "ext4"}, {"8:1", "/home/u/p", "/mnt/p", "ext4"}, {"8:1", "/home/u/p/policy/sub", "/mnt/sub", "ext4"}, {"8:2", "/home/u/p", "/mnt/other", "ext4"}},
			spec:   Spec{ReadOnly: []string{"/home/u/p/policy", "/home/u/p/policy/sub"}},
			want: "pin /home/u/p; pin /home/u/p/policy; read-only /home/u/p/policy; pin /mnt/all/home/u/p/policy; read-only /mnt/all/home/u/p/policy; " +
				"pin /mnt/p/policy; read-only /mnt/p/policy; pin /mnt/sub; read-only /mnt/sub",
		},
		{
			name:  "run and var/run are hidden once, with what must be there",
			kinds: map[string]kind{"/run/dbus/socket": socket, "/var/lock": folder},
			links: map[string]string{"/var/run": "/run"}, sockets: []string{"/run/dbus/socket"},
			want: "mount /run; mkdir /run/lock; mkdir /run/user/1000",
		},
		{
			name:    "sockets elsewhere are masked, unless asked for",
			kinds:   map[string]kind{"/home/u/app.sock": socket, "/home/u/mine.sock": socket, "/home/u/gone": file, "/srv/x.sock": socket},
			sockets: []string{"/home/u/app.sock", "/home/u/mine.sock", "/home/u/gone", "/srv/x.sock"},
			spec:    Spec{Expose: []string{"/home/u/mine.sock"}},
			want:    "mask /home/u/app.sock; mask /srv/x.sock",
		},
		{
			name:  "the working folder, the program and asked things in hidden folders",
			kinds: map[string]kind{"/run/user/1000/work": folder, "/run/bin/tool": file, "/run/asked.sock": socket, "/run/other.sock": socket},
			spec:  Spec{Dir: "/run/user/1000/work", Path: "/run/bin/tool", Expose: []string{"/run/asked.sock"}, ReadOnly: []string{"/run/user/1000/work"}},
			want: "lift /run/asked.sock; lift /run/bin; lift /run/bin/tool; lift /run/user/1000/work; mount /run; mkdir /run/lock; mkdir /run/user/1000; " +
				"mkdir /run; file /run/asked.sock; place /run/asked.sock; mkdir /run; mkdir /run/bin; place /run/bin; " +
				"mkdir /run/bin; file /run/bin/tool; place /run/bin/tool; mkdir /run/user/1000; mkdir /run/user/1000/work; place /run/user/1000/work; " +
				"pin /run/user; pin /run/user/1000; pin /run/user/1000/work; read-only /run/user/1000/work",
		},
		{
			name:  "a hidden folder that was asked for stays",
			kinds: map[string]kind{"/tmp/.X11-unix/X0": socket, "/tmp/tmux-1000/default": socket},
			spec:  Spec{Expose: []string{"/tmp/.X11-unix"}}, sockets: []string{"/tmp/.X11-unix/X0"},
			want: "mount /tmp/tmux-1000",
		},
		{
			name:  "a link that somebody made in /tmp hides nothing",
			kinds: map[string]kind{"/home/u/data": folder}, links: map[string]string{"/tmp/ssh-trick": "/home/u"},
			want: "",
		},
		{
			name:  "sockets of the home folder",
			kinds: map[string]kind{"/home/u/.gnupg/S.gpg-agent": socket, "/home/u/.gnupg/pubring.kbx": file, "/home/u/.docker/run/docker.sock": socket},
			spec:  Spec{Home: "/home/u"},
			want:  "mount /home/u/.docker/run; mask /home/u/.gnupg/S.gpg-agent",
		},
		{
			name:   "the machine's proc and devices at unusual places",
			kinds:  map[string]kind{"/srv/root/proc": folder, "/srv/root/dev": folder, "/proc/sys/fs/binfmt_misc": folder},
			mounts: []mount{{"0:5", "/", "/srv/root/proc", "proc"}, {"0:6", "/", "/srv/root/dev", "devtmpfs"}, {"0:5", "/", "/proc", "proc"}},
			want:   "mount /srv/root/proc; mount /srv/root/dev",
		},
		{
			name:  "resolv.conf is a file",
			kinds: map[string]kind{"/etc/resolv.conf": file},
			want:  "bind /etc/resolv.conf",
		},
		{
			name:  "resolv.conf is a link into run",
			kinds: map[string]kind{"/run/systemd/resolve/stub-resolv.conf": file},
			links: map[string]string{"/etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf"},
			want:  "mount /run; mkdir /run/lock; mkdir /run/user/1000; mkdir /run/systemd/resolve; file /run/systemd/resolve/stub-resolv.conf",
		},
		{
			name:  "NixOS keeps its programs in run",
			kinds: map[string]kind{"/nix/system": folder, "/run/lock": folder},
			links: map[string]string{"/run/current-system": "/nix/system"},
			want:  "mount /run; mkdir /run/lock; mkdir /run/user/1000; mkdir /run; symlink /run/current-system",
		},
		{
			name:  "a device that was asked for",
			kinds: map[string]kind{"/dev/fuse": device},
			spec:  Spec{Expose: []string{"/dev/fuse"}},
			want:  "lift /dev/fuse; place /dev/fuse",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := machineOf(c.kinds)
			for from, to := range c.links {
				v.links[from] = to
			}
			ops, err := planMounts(&c.spec, facts{view: v, mounts: append([]mount{rootMount}, c.mounts...), sockets: c.sockets, uid: 1000})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "; ")
			}
			if diff := cmp.Diff(want, sketch(ops)); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
		})
	}
}

// What must come before what, in every plan.
func TestMountPlanOrder(t *testing.T) {
	v := machineOf(map[string]kind{"/dev/null": device, "/dev/sda": device, "/run/x": file, "/sys/kernel": folder, "/home/u/p.yaml": file})
	ops, err := planMounts(&Spec{ReadOnly: []string{"/home/u/p.yaml"}}, facts{view: v, mounts: []mount{rootMount}, terminal: "/dev/pts/3"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(k stage.OpKind, path string) int {
		i := slices.IndexFunc(ops, func(o stage.Op) bool { return o.Kind == k && o.Path == path })
		if i < 0 {
			t.Errorf("there is no operation %d on %s", k, path)
		}
		return i
	}
	if at(stage.OpPrivate, "/") != 0 {
		t.Error("the first operation is not to stop propagation to the machine")
	}
	for _, o := range [][2]int{
		{at(stage.OpLift, "/dev/null"), at(stage.OpSet, "/")}, // device nodes keep working
		{at(stage.OpLift, "/dev/pts/3"), at(stage.OpSet, "/")},
		{at(stage.OpSet, "/"), at(stage.OpMount, "/dev")},
		{at(stage.OpMount, "/dev"), at(stage.OpPlace, console)},
		{at(stage.OpMount, "/run"), at(stage.OpSet, "/home/u/p.yaml")},
		{at(stage.OpRemove, scratch), at(stage.OpSetOne, "/dev")},
	} {
		if o[0] >= o[1] {
			t.Errorf("%s comes after %s", ops[o[0]], ops[o[1]])
		}
	}
	if slices.ContainsFunc(ops, func(o stage.Op) bool { return o.Path == "/dev/sda" }) {
		t.Error("a disk is in the plan")
	}
	at(stage.OpSet, "/sys")
}

func TestMountPlanErrors(t *testing.T) {
	v := machineOf(map[string]kind{"/etc/x": file})
	f := facts{view: v, mounts: []mount{rootMount}}
	if _, err := planMounts(&Spec{ReadOnly: []string{"/"}}, f); err == nil {
		t.Error("the whole file system was protected")
	}
	for _, spec := range []Spec{{ReadOnly: []string{"/none"}}, {Expose: []string{"/none"}}} {
		if _, err := planMounts(&spec, f); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"/none"`) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

func TestParseMounts(t *testing.T) {
	text := `22 27 0:21 / /proc rw,relatime - proc proc rw
36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
malformed
1 2 3:4 / /x rw -
`
	want := []mount{{"0:21", "/", "/proc", "proc"}, {"98:0", "/mnt1", `/mnt 2\`, "ext3"}}
	if diff := cmp.Diff(want, parseMounts(text), cmp.AllowUnexported(mount{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseUnixSockets(t *testing.T) {
	text := `Num       RefCount Protocol Flags    Type St Inode Path
00000000aa7696ce: 00000003 00000000 00000000 0001 03  1085
00000000676c49f8: 00000002 00000000 00010000 0001 01 21084 /run/dbus/system_bus_socket
00000000676c49f8: 00000002 00000000 00010000 0001 01 21084 /tmp/with space
00000000676c49f8: 00000002 00000000 00010000 0001 01 21084 @/tmp/.X11-unix/X0
00000000676c49f8: 00000002 00000000 00010000 0001 01 21084 relative
00000000676c49f8: 00000002 00000000 00010000 0001 01 21084 /run/dbus/system_bus_socket
`
	want := []string{"/run/dbus/system_bus_socket", "/tmp/with space"}
	if diff := cmp.Diff(want, parseUnixSockets(text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPathsInEnvironment(t *testing.T) {
	env := []string{"SSH_AUTH_SOCK=/tmp/a/agent", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x/bus,guid=1", "DOCKER_HOST=unix:///y/docker.sock", "TMUX=/z/tmux-1/default,12,0", "N=1", "EMPTY="}
	want := []string{"/tmp/a/agent", "/x/bus", "/y/docker.sock", "/z/tmux-1/default"}
	if diff := cmp.Diff(want, pathsInEnvironment(env)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw - ext3 /dev/root rw\n", "/mnt 2/x")
	f.Add("1 2 3:4 / / rw - ext4 x rw\n1 2 3:4 /a /b rw - ext4 x rw\n", "/a/c")
	f.Fuzz(func(t *testing.T, text, path string) {
		mounts := parseMounts(text)
		for _, a := range aliases(mounts, filepath.Clean("/"+path)) {
			if a.path == a.of {
				t.Errorf("%q is an alias of itself", a.path)
			}
		}
	})
}

func FuzzParseUnixSockets(f *testing.F) {
	f.Add("0: 3 0 0 1 3 1 /x y\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range append(parseUnixSockets(text), pathsInEnvironment([]string{text})...) {
			if !filepath.IsAbs(path) {
				t.Errorf("%q is not absolute", path)
			}
		}
	})
}
