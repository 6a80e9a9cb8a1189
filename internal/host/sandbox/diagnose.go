package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/sandbox/stage"
)

// StartError says that the machine did not let the sandbox be made. Diagnose tells
// the user what to do.
type StartError struct {
	Stage string // StageClone, stage.OuterName or stage.InnerName
	Err   error
}

// StageClone is the making of the namespaces.
const StageClone = "clone"

func (e *StartError) Error() string {
	if e.Stage == StageClone {
		return fmt.Sprintf("make the sandbox's namespaces: %v", e.Err)
	}
	return fmt.Sprintf("set the sandbox up: %v", e.Err)
}

func (e *StartError) Unwrap() error { return e.Err }

// CommandError says that the command could not be started, for a reason of its own.
type CommandError struct{ Err error }

func (e *CommandError) Error() string { return e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// ShellCode is the status that shells give: 127 when there is no such program, 126
// when it cannot be run.
func (e *CommandError) ShellCode() int {
	if errors.Is(e.Err, unix.ENOENT) {
		return 127
	}
	return 126
}

// condition is what Diagnose looks at.
type condition struct {
	setting   func(path string) string // of a file below /proc/sys, trimmed; "" if it is not there
	release   string                   // of the kernel
	container bool
	filtered  bool // a system call filter is on
	sandboxed bool // this is the inside of a sandbox
	self      string
}

// Diagnose explains an error of Start, Go or Wait to the user: the error, and what to
// do about it where that is known.
func Diagnose(err error) string {
	return diagnose(err, machineCondition())
}

func machineCondition() condition {
	c := condition{
		setting: func(path string) string {
			b, err := os.ReadFile("/proc/sys/" + path)
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(b))
		},
	}
	c.release = c.setting("kernel/osrelease")
	for _, path := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(path); err == nil {
			c.container = true
		}
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		c.filtered = strings.Contains(string(status), "\nSeccomp:\t2")
	}
	if self, err := os.Executable(); err == nil {
		c.self = self
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		c.sandboxed = slices.ContainsFunc(addresses, func(a net.Addr) bool {
			return a.String() == netip.PrefixFrom(address4, address4.BitLen()).String()
		})
	}
	return c
}

func diagnose(err error, c condition) string {
	var start *StartError
	if !errors.As(err, &start) {
		return err.Error()
	}
	advice := start.advice(c)
	if advice == "" {
		return err.Error()
	}
	return err.Error() + "\n" + advice
}

// advice looks for the cause in the order of how sure it is.
func (e *StartError) advice(c condition) string {
	refused := errors.Is(e.Err, unix.EPERM) || errors.Is(e.Err, unix.EACCES)
	switch {
	case c.sandboxed && refused:
		return "This is the inside of egret run already, where no further sandbox can be made. Leave \"egret run\" out here:\n" +
			"the command is governed by the outer one as it is."
	case c.setting("kernel/unprivileged_userns_clone") == "0" && refused && e.Stage == StageClone:
		return setting("Unprivileged user namespaces are switched off on this machine.", "kernel.unprivileged_userns_clone=1")
	case isZero(c, "user/max_user_namespaces"):
		return setting("User namespaces are switched off on this machine.", "user.max_user_namespaces=15000")
	case isZero(c, "user/max_net_namespaces"):
		return setting("Network namespaces are switched off on this machine.", "user.max_net_namespaces=15000")
	case c.setting("kernel/apparmor_restrict_unprivileged_userns") == "1" && refused:
		return apparmorAdvice(c.self)
	case errors.Is(e.Err, unix.ENOSPC) && e.Stage == StageClone:
		return "There are too many namespaces on this machine already (sysctl user.max_user_namespaces), or they are nested too deeply (32 levels)."
	case refused && e.Stage == stage.InnerName && strings.Contains(e.Err.Error(), "mount proc"):
		return "Parts of /proc are covered on this machine, as container engines do, so the kernel does not let a new /proc be mounted.\n" +
			"In Docker, start the container with --security-opt systempaths=unconfined; in Kubernetes, with procMount: Unmasked."
	case refused && (c.container || c.filtered):
		return "This looks like the inside of a container (or another sandbox) that does not allow user namespaces and mounts.\n" +
			"In Docker, start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined."
	case errors.Is(e.Err, unix.EINVAL) && e.Stage == StageClone:
		return "The kernel has no user namespaces (CONFIG_USER_NS)."
	case errors.Is(e.Err, unix.ENOSYS):
		return fmt.Sprintf("The sandbox needs Linux 5.12 or later; this is %s.", c.release)
	case errors.Is(e.Err, unix.ENOENT) && strings.Contains(e.Err.Error(), "capture the network"),
		errors.Is(e.Err, unix.EOPNOTSUPP), errors.Is(e.Err, unix.EPROTONOSUPPORT):
		return "The kernel has no nftables with NAT. Load its modules once: sudo modprobe -a nf_tables nft_redir nft_reject_inet nft_limit nft_log nfnetlink_log"
	case refused && e.Stage == StageClone:
		return "The kernel refused a user namespace. Is this process in a chroot, or under a security module that forbids them?"
	}
	return ""
}

func isZero(c condition, path string) bool { return c.setting(path) == "0" }

func setting(what, value string) string {
	return fmt.Sprintf("%s Switch them on with\n\n    sudo sysctl -w %s\n\nand, to keep it so after a restart,\n\n    echo %s | sudo tee /etc/sysctl.d/99-egret.conf", what, value, value)
}

// apparmorAdvice is for Ubuntu 23.10 and later, where programs need an AppArmor
// profile to have capabilities in a user namespace.
func apparmorAdvice(self string) string {
	return fmt.Sprintf(`This machine lets only programs with an AppArmor profile use user namespaces. Give egret one:

    sudo tee /etc/apparmor.d/egret <<'EOF'
    abi <abi/4.0>,
    include <tunables/global>
    profile egret %s flags=(unconfined) {
      userns,
    }
    EOF
    sudo apparmor_parser -r /etc/apparmor.d/egret

or lift the restriction for all programs:

    sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, self)
}
