package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

func TestDiagnose(t *testing.T) {
	clone := func(e unix.Errno) error { return &StartError{Stage: "clone", Err: e} }
	outer := func(text string, e unix.Errno) error {
		return &StartError{Stage: stage.OuterName, Err: fmt.Errorf("%s: %w", text, e)}
	}
	for _, c := range []struct {
		name     string
		err      error
		settings map[string]string
		more     condition
		want     string
	}{
		{"Debian's switch", clone(unix.EPERM), map[string]string{"kernel/unprivileged_userns_clone": "0"}, condition{}, "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"no user namespaces", clone(unix.ENOSPC), map[string]string{"user/max_user_namespaces": "0"}, condition{}, "sudo sysctl -w user.max_user_namespaces=15000"},
		{"no network namespaces", clone(unix.ENOSPC), map[string]string{"user/max_net_namespaces": "0"}, condition{}, "sudo sysctl -w user.max_net_namespaces=15000"},
		{"in a sandbox", clone(unix.EPERM), map[string]string{"kernel/unprivileged_userns_clone": "0"}, condition{sandboxed: true, filtered: true}, "inside of egret run already"},
		{"too many", clone(unix.ENOSPC), map[string]string{"user/max_user_namespaces": "100"}, condition{}, "too many namespaces"},
		{"Ubuntu", outer("capture the network", unix.EPERM), map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, condition{self: "/opt/egret"}, "profile egret /opt/egret flags=(unconfined)"},
		{"Docker's filter", clone(unix.EPERM), nil, condition{container: true}, "--security-opt seccomp=unconfined"},
		{"covered proc", &StartError{Stage: stage.InnerName, Err: fmt.Errorf(`mount proc on "/proc": %w`, unix.EPERM)}, nil, condition{container: true}, "procMount: Unmasked"},
		{"no CONFIG_USER_NS", clone(unix.EINVAL), nil, condition{}, "CONFIG_USER_NS"},
		{"old kernel", outer("restrict the mount", unix.ENOSYS), nil, condition{release: "4.18.0"}, "needs Linux 5.12 or later; this is 4.18.0"},
		{"no nftables", outer("capture the network", unix.ENOENT), nil, condition{}, "modprobe"},
		{"chroot", clone(unix.EPERM), nil, condition{}, "chroot"},
		{"of the command", &CommandError{Err: errors.New("no such program")}, nil, condition{}, "no such program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.more.setting = func(path string) string { return c.settings[path] }
			got := diagnose(c.err, c.more)
			if !strings.HasPrefix(got, c.err.Error()) || !strings.Contains(got, c.want) {
				t.Errorf("got:\n%s\nwant it to begin with the error and have %q", got, c.want)
			}
		})
	}
}

func TestLookPath(t *testing.T) {
	if got, err := lookPath("sh", "/", []string{"PATH=/nowhere:/bin"}); err != nil || got != "/bin/sh" {
		t.Errorf("sh: %q, %v", got, err)
	}
	if got, err := lookPath("./x", "/dir", nil); err != nil || got != "/dir/x" {
		t.Errorf("./x: %q, %v", got, err)
	}
	if _, err := lookPath("no-such-command", "/", nil); !errors.Is(err, unix.ENOENT) || err.Error() != `"no-such-command" was not found in PATH` {
		t.Errorf("a command that is nowhere: %v", err)
	}
	if _, err := lookPath("passwd", "/", []string{"PATH=/etc"}); !errors.Is(err, unix.EACCES) {
		t.Errorf("a file that is not executable: %v", err)
	}
}
