package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// policy is a folder of ServiceEntries.
type policy struct {
	folder         string
	entries, files int
	version        map[int]int // of the entries that were changed
}

func (p *policy) writeAll() error {
	for i := range p.files {
		if err := p.write(i); err != nil {
			return err
		}
	}
	return nil
}

// change gives an entry another endpoint.
func (p *policy) change(entry int) error {
	p.version[entry]++
	return p.write(entry % p.files)
}

// write replaces one file as an editor does.
func (p *policy) write(number int) error {
	var b strings.Builder
	for i := number; i < p.entries; i += p.files {
		fmt.Fprintf(&b, entryYAML, i, hostOf(i), p.version[i])
	}
	path := filepath.Join(p.folder, fmt.Sprintf("entries-%05d.yaml", number))
	if err := os.WriteFile(path+"~", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(path+"~", path)
}

func hostOf(i int) string { return fmt.Sprintf("host-%d.example.com", i) }

const entryYAML = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: host-%d, namespace: default}
spec:
  hosts: [%s]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
  endpoints:
  - {address: origin-%d.example.net}
`

// plane is an egretd under measurement.
type plane struct {
	cmd     *exec.Cmd
	address string
}

var readyLine = regexp.MustCompile(`msg=ready xds=(\S+)`)

func startPlane(ctx context.Context, egretd, folder string) (*plane, error) {
	p := &plane{cmd: exec.CommandContext(ctx, egretd, "-f", folder, "--xds-address", "127.0.0.1:0", "--monitoring-address", "")}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			p.address = m[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return p, nil
		}
	}
	p.stop()
	return nil, fmt.Errorf("egretd ended before it was ready")
}

func (p *plane) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// cpu is the time that the process has used: the clock that clock_getcpuclockid(3) gives.
func (p *plane) cpu() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &t)
	return time.Duration(t.Nano()), err
}

// memory is what is resident now, and the most that was, in MB.
func (p *plane) memory() (now, peak int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			now = kb / 1024
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			peak = kb / 1024
		}
	}
	return now, peak
}
