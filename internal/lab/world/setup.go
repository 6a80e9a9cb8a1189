package world

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/lab/internet"
)

// setUpNetwork gives the loopback interface every address of the internet. There is
// no route to anywhere else.
func setUpNetwork(w internet.World) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, a := range w.Addresses() {
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
			Flags: unix.IFA_F_NODAD,
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			if a.Is6() && errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) {
				continue // IPv6 is switched off on this machine
			}
			return fmt.Errorf("add %s to lo: %w", a, err)
		}
	}
	return nil
}

// systemBundles are where distributions keep the certificates that are trusted.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/ssl/cert.pem",
}

// setUpFiles makes the world's resolver and authority those of the machine, in this
// mount namespace only. It returns the path of the bundle of certificates.
func setUpFiles(dir string, resolver netip.Addr, ca []byte) (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make mounts private: %w", err)
	}
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+resolver.String()+"\n"), 0o644); err != nil {
		return "", err
	}
	if err := bindOver(conf, "/etc/resolv.conf"); err != nil {
		return "", err
	}
	// Services that would resolve names outside of the world.
	for _, d := range []string{"/run/systemd/resolve", "/run/nscd", "/var/run/nscd"} {
		if info, err := os.Lstat(d); err == nil && info.IsDir() {
			if err := unix.Mount("none", d, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4k"); err != nil {
				return "", fmt.Errorf("hide %s: %w", d, err)
			}
		}
	}
	return trust(dir, ca)
}

func trust(dir string, ca []byte) (string, error) {
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644); err != nil {
		return "", err
	}
	bundle := filepath.Join(dir, "ca-certificates.crt")
	all := ca
	for _, path := range systemBundles {
		if system, err := os.ReadFile(path); err == nil {
			all = append(append(system, '\n'), ca...)
			break
		}
	}
	if err := os.WriteFile(bundle, all, 0o644); err != nil {
		return "", err
	}
	for _, path := range systemBundles {
		if err := bindOver(bundle, path); err != nil {
			return "", err
		}
	}
	return bundle, nil
}

// bindOver mounts file over target, following links; a target that is not there is
// left out.
func bindOver(file, target string) error {
	real, err := filepath.EvalSymlinks(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(file, real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", real, err)
	}
	return nil
}
