// Package internet runs the lab's simulated internet as a process in a network
// namespace of its own, which the node's one interface leads to.
//
// It must not know anything of the cluster.
package internet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	lab "github.com/egret-mesh/egret/internal/lab/internet"
)

// world is the lab's, with IPv4 only, as the cluster has it.
func world() lab.World {
	w := lab.Default()
	for i := range w.Sites {
		w.Sites[i].Addrs = slices.DeleteFunc(w.Sites[i].Addrs, netip.Addr.Is6)
	}
	return w
}

// Process is the running internet, as its parent has it.
type Process struct {
	// PID is a process in its network namespace.
	PID   int
	in    io.WriteCloser
	lines *bufio.Reader
}

// Start runs this program again with args, which must call Serve. The network is made
// by the caller; then Go.
func Start(ctx context.Context, args []string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the internet: %w", err)
	}
	return &Process{PID: cmd.Process.Pid, in: in, lines: bufio.NewReader(out)}, nil
}

// Go tells the internet that it has a network; it returns the certificate of the
// authority that signed its sites' (PEM) when all of them answer.
func (p *Process) Go() ([]byte, error) {
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		return nil, err
	}
	var pem strings.Builder
	for {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("the internet did not start: %w", err)
		}
		pem.WriteString(line)
		if strings.HasPrefix(line, "-----END") {
			return []byte(pem.String()), nil
		}
	}
}

// Resolver is the address of its DNS server.
func Resolver() string { return lab.Default().DNS.String() }

// Serve is the process itself: it waits for a line, sets its network up, and serves
// until its standard input ends. Each name that its DNS server is asked is a line of
// queries.
func Serve(in io.Reader, out, queries io.Writer, setup func([]netip.Addr) error) error {
	input := bufio.NewReader(in)
	if _, err := input.ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the network: %w", err)
	}
	w := world()
	if err := setup(w.Addresses()); err != nil {
		return err
	}
	server, err := lab.Start(w, queries)
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := out.Write(server.CA); err != nil {
		return err
	}
	if _, err := input.ReadString('\n'); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
