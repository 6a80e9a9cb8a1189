package stage

import (
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// Whatever the stages import is initialised before they take over, in every egret
// that starts one; see the package's comment.
func TestImportsStayFew(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	want := []string{
		"github.com/egret-mesh/egret/internal/host/netns",
		"github.com/egret-mesh/egret/internal/host/sandbox/stage",
		"golang.org/x/sys/unix",
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("imports (-want +got):\n%s", diff)
	}
	standard, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, heavy := range []string{"net", "net/netip", "os/exec", "encoding/json", "log/slog", "text/template", "regexp"} {
		if slices.Contains(strings.Fields(string(standard)), heavy) {
			t.Errorf("%s is initialised after the big libraries are", heavy)
		}
	}
}

func samplePlan() *Outer {
	return &Outer{
		UID: 1000, GID: 100,
		Requests:  []netns.Request{{Name: "a", Protocol: 12, Data: []byte{1, 2}, Optional: true, Fallback: []byte{3}}, {Name: "b"}},
		Sysctls:   []Sysctl{{"/proc/sys/x", "0 0"}},
		Sockets:   []Socket{{Name: "tcp6", IPv6: true, Packet: true, Port: 15001}},
		PacketLog: [][]byte{{4, 5}},
		Mounts:    []Op{{Kind: OpMount, Path: "/run", Source: "s", Type: "tmpfs", Data: "mode=0755", Flags: 6, Mode: 0o755, Optional: true}},
	}
}

func TestPlansSurviveTheirEncoding(t *testing.T) {
	outer := samplePlan()
	if got, err := DecodeOuter(outer.Encode()); err != nil || !cmp.Equal(outer, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(outer, got))
	}
	inner := &Inner{Path: "/bin/sh", Args: []string{"sh", ""}, Env: []string{"A=b"}, Dir: "/", Seccomp: []byte{7}, OwnGroup: true}
	if got, err := DecodeInner(inner.Encode()); err != nil || !cmp.Equal(inner, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(inner, got))
	}
	failure := &Failure{Stage: InnerName, Text: "start: " + unix.ENOENT.Error(), Errno: unix.ENOENT, Command: true}
	got, err := DecodeFailure(EncodeFailure(InnerName, &commandError{failure}))
	if err != nil || !cmp.Equal(failure, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(failure, got))
	}
}

func TestCutPlansAreRefused(t *testing.T) {
	whole := samplePlan().Encode()
	for n := range whole {
		if _, err := DecodeOuter(whole[:n]); err == nil {
			t.Fatalf("a plan cut at %d of %d was accepted", n, len(whole))
		}
	}
	if _, err := DecodeOuter(append(whole, 0)); err == nil {
		t.Error("a plan with something after its end was accepted")
	}
}

func TestFrames(t *testing.T) {
	b := AppendFrame(AppendFrame(nil, FrameNote, []byte("text")), FrameGo, nil)
	r := bytes.NewReader(b)
	kind, payload, err := ReadFrame(r)
	if kind != FrameNote || string(payload) != "text" || err != nil {
		t.Errorf("%c %q %v", kind, payload, err)
	}
	if kind, payload, err = ReadFrame(r); kind != FrameGo || len(payload) != 0 || err != nil {
		t.Errorf("%c %q %v", kind, payload, err)
	}
	if _, _, err = ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, _, err := ReadFrame(bytes.NewReader([]byte{255, 255, 255, 255, FrameNote})); err == nil {
		t.Error("a frame of four gigabytes was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(samplePlan().Encode())
	f.Add((&Inner{Path: "/x", Args: []string{"x"}}).Encode())
	f.Add(AppendFrame(nil, FrameExit, EncodeNumber(9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := DecodeOuter(b); err == nil && !bytes.Equal(o.Encode(), b) {
			if again, err := DecodeOuter(o.Encode()); err != nil || !cmp.Equal(o, again) {
				t.Error("a plan changes with its encoding")
			}
		}
		_, _ = DecodeInner(b)
		_, _ = DecodeFailure(b)
		_, _ = DecodeNumber(b)
		_, _, _ = ReadFrame(bytes.NewReader(b))
	})
}
