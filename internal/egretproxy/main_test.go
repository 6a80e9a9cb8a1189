package egretproxy_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/runtest"
)

// spawn starts a shell command; the test ends it, and so does end, which tells how it
// ended.
func spawn(t *testing.T, dir, bin, line string) (out *runtest.Log, end func(os.Signal) error) {
	t.Helper()
	cmd := exec.Command("sh", "-e", "-c", "exec "+line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out = &runtest.Log{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	var err error
	end = func(s os.Signal) error {
		once.Do(func() { err = errors.Join(cmd.Process.Signal(s), cmd.Wait()) })
		return err
	}
	t.Cleanup(func() {
		_ = end(os.Kill)
		if t.Failed() {
			t.Logf("$ %s\n%s", line, out)
		}
	})
	return out, end
}

// SIGTERM lets what is under way end, and takes nothing new; the exit status is 0.
func TestDrain(t *testing.T) {
	origin, requests, answer := slowWebsite(t)
	gateway, admin := runtest.FreeAddress(t), runtest.FreeAddress(t)
	dir := t.TempDir()
	policy(t, dir, "api.example.com", origin, gateway)
	p := startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: "127.0.0.1:0"})
	if err := os.WriteFile(filepath.Join(dir, "bootstrap"), writeBootstrap(t, gatewayNode, admin, nil, p.xds), 0o600); err != nil {
		t.Fatal(err)
	}
	out, end := spawn(t, dir, programs(t), "egret-proxy -c bootstrap --drain-timeout 1m")
	runtest.Eventually(t, "the gateway listens", func() bool { return strings.Contains(out.String(), "listener open") })
	got := make(chan string, 1)
	go func() { got <- ask(gateway.String(), "api.example.com") }()
	<-requests
	ended := make(chan error, 1)
	go func() { ended <- end(syscall.SIGTERM) }()
	runtest.Eventually(t, "nothing new is taken", func() bool {
		c, err := net.Dial("tcp", gateway.String()) // it asks nothing: what is taken would wait for the answer
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if ready := get(t, "http://"+admin.String()+"/ready"); ready != "DRAINING\n" {
		t.Errorf("/ready: %s", ready)
	}
	close(answer)
	if a := <-got; a != "200 slow" {
		t.Errorf("what was under way: %s", a)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(out.String(), `"GET / HTTP/1.1" 200`) {
		t.Errorf("no access log on standard output:\n%s", out)
	}
}

const insideEnv = "EGRET_README_INSIDE"

// The README's commands about the programs, as they stand there. Their ports are fixed, so
// they are run in a network of their own.
func TestReadme(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		readmeCommands(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestReadme$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{12}, // CAP_NET_ADMIN, to set lo up
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		t.Skip("unprivileged user namespaces are switched off on this machine")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func readmeCommands(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## The halves apart\n")
	section, _, _ = strings.Cut(section, "\n## ")
	dir, bin := t.TempDir(), programs(t)
	if err := os.Mkdir(filepath.Join(dir, "policy"), 0o755); err != nil {
		t.Fatal(err)
	}
	gateway := netip.MustParseAddrPort("127.0.0.1:8080")
	policy(t, filepath.Join(dir, "policy"), "api.example.com", website(t, "origin"), gateway)
	p := &plane{monitoring: "127.0.0.1:15014"}
	var endGateway func(os.Signal) error
	ran := 0
	for line := range strings.Lines(section) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !ok {
			continue
		}
		command = strings.TrimLeft(command, " ") // within a list
		ran++
		t.Logf("$ %s", command)
		switch program, _, _ := strings.Cut(command, " "); program {
		case "egret":
			cmd := exec.Command("sh", "-e", "-c", command)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("$ %s\n%v\n%s", command, err, out)
			}
		case "egretd":
			spawn(t, dir, bin, command)
			runtest.Eventually(t, "egretd is ready", func() bool { return get(t, "http://127.0.0.1:15014/ready") == "" })
		case "egret-proxy":
			_, endGateway = spawn(t, dir, bin, command)
			runtest.Eventually(t, "the gateway answers", func() bool {
				return ask(gateway.String(), "api.example.com") == "200 origin: api.example.com"
			})
			checkMonitoring(t, p)
		case "envoy":
			if err := endGateway(syscall.SIGTERM); err != nil { // it has the same admin address
				t.Errorf("the gateway: %v", err)
			}
			spawn(t, dir, bin, strings.Replace(command, "envoy", findEnvoy(t), 1)+" --disable-hot-restart")
			runtest.Eventually(t, "egretd knows Envoy", func() bool { return strings.Contains(p.status(t), "~web.default~") })
		default:
			t.Errorf("unknown command in the README: %s", command)
		}
	}
	if ran < 5 {
		t.Errorf("only %d commands found in the README", ran)
	}
}
