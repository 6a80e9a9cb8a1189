package standalone

import (
	"testing"

	"github.com/egret-mesh/egret/internal/data/instance"
)

func TestMaxConnections(t *testing.T) {
	for files, want := range map[uint64]int{0: 1, 256: 12, 1024: 48, 4096: 224, 1 << 19: 16384, ^uint64(0): 16384} {
		if got := maxConnections(files); got != want {
			t.Errorf("with %d open files: %d connections, want %d", files, got, want)
		}
	}
	if n := maxConnections(instance.OpenFiles()); n < 2 {
		t.Errorf("this process may have %d connections", n)
	}
}
