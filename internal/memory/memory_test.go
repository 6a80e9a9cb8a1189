package memory

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const maps = `00400000-00e7e000 r-xp 00000000 fe:00 10002552                           /opt/egret
00e7e000-01c19000 r--p 00a7e000 fe:00 10002552                           /opt/egret
01c19000-01d00000 rw-p 01819000 fe:00 10002552                           /opt/egret
01d00000-01d10000 r--s 00000000 fe:00 10002552                           /opt/egret
01d10000-01d20000 r--p 00000000 fe:00 10002553                           /srv/opt/egret
01d20000-01d30000 rw-p 00000000 00:00 0 
7ffd1000-7ffd3000 r-xp 00000000 00:00 0                                  [vdso]
`

func TestReadOnly(t *testing.T) {
	got, err := readOnly(strings.NewReader(maps), "/opt/egret")
	if want := []span{{0x400000, 0xe7e000}, {0xe7e000, 0x1c19000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := readOnly(strings.NewReader("what-ever r--p /opt/egret\n"), "/opt/egret"); err == nil {
		t.Errorf("%x", got)
	}
}

// The process takes less afterwards, and works as before.
func TestSettled(t *testing.T) {
	k := New()
	garbage := make([][]byte, 64)
	for i := range garbage {
		garbage[i] = []byte(strings.Repeat("x", 1<<18))
	}
	before := resident(t, "RssAnon:")
	program := resident(t, "RssFile:")
	garbage = nil
	k.Settled()
	if after := resident(t, "RssAnon:"); after > before-8<<10 {
		t.Errorf("%d KB of heap and stacks before, %d after", before, after)
	}
	if after := resident(t, "RssFile:"); after >= program {
		t.Errorf("%d KB of the program before, %d after", program, after)
	}
	k.Settled() // once more does no harm
	if got := len(garbage) + len(strings.Repeat("ab", 3)); got != 6 {
		t.Error(got)
	}
}

// resident is a line of /proc/self/status, in KB.
func resident(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("no " + name + " in /proc/self/status")
	return 0
}
