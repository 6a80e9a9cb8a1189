package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egret-mesh/egret/internal/interop"
)

// matrix is what came of each script in each cell.
type matrix struct {
	mu    sync.Mutex
	marks map[string]map[interop.Cell]string              // by script
	logs  map[string]map[interop.Cell]map[string][]string // by script: its access logs
}

// Marks of a matrix.
const (
	same      = "✔"
	different = "✘"
	// differentLogs: as the script says, but not what is in the access logs.
	differentLogs = "✘ log"
	noTraffic     = "–"
)

// watch notes how the script of env ends.
func (m *matrix) watch(cell interop.Cell, env *testscript.Env) {
	script := scriptName(env)
	env.Defer(func() {
		mark := same
		t, ok := env.T().(interface {
			Failed() bool
			Skipped() bool
		})
		switch {
		case !ok || t.Failed():
			mark = different
		case t.Skipped():
			mark = noTraffic
		}
		logs, err := logsOf(env.WorkDir)
		if err != nil {
			env.T().Log(err)
			mark = different
		}
		m.set(script, cell, mark, logs)
	})
}

func newMatrix() *matrix {
	return &matrix{marks: map[string]map[interop.Cell]string{}, logs: map[string]map[interop.Cell]map[string][]string{}}
}

func (m *matrix) set(script string, cell interop.Cell, mark string, logs map[string][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.marks[script] == nil {
		m.marks[script], m.logs[script] = map[interop.Cell]string{}, map[interop.Cell]map[string][]string{}
	}
	m.marks[script][cell], m.logs[script][cell] = mark, logs
}

// compareLogs compares the access logs of each script with those of the first cell that
// ran it, and tells how they differ.
func (m *matrix) compareLogs() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, script := range slices.Sorted(maps.Keys(m.logs)) {
		var first map[string][]string
		for _, c := range allCells {
			logs := m.logs[script][c]
			if m.marks[script][c] != same {
				continue
			}
			if first == nil {
				first = logs
				continue
			}
			if diff := differences(first, logs); diff != "" {
				m.marks[script][c] = differentLogs
				fmt.Fprintf(&b, "%s, %s: %s", script, c, diff)
			}
		}
	}
	return b.String()
}

// String is the matrix as text.
func (m *matrix) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var scripts, without []string
	for script, marks := range m.marks {
		for _, mark := range marks {
			if mark == noTraffic {
				without = append(without, script)
			} else {
				scripts = append(scripts, script)
			}
			break
		}
	}
	slices.Sort(scripts)
	slices.Sort(without)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-18s", "sidecar-gateway:")
	for _, c := range allCells {
		fmt.Fprintf(&b, " %-12s", c)
	}
	b.WriteByte('\n')
	for _, script := range scripts {
		fmt.Fprintf(&b, "%-18s", script)
		for _, c := range allCells {
			mark := m.marks[script][c]
			if mark == "" {
				mark = "."
			}
			fmt.Fprintf(&b, " %-12s", mark)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\n%s as the script says. Without traffic (each says why): %s\n", same, strings.Join(without, ", "))
	return b.String()
}
