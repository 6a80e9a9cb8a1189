package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// floodEnv makes the test's program a client: "NUMBER ADDRESS QUOTED-TEXT". It opens that
// many connections, says the text on each, and keeps them until its input ends. A
// process of its own, so that the memory that is measured is the proxy's.
const floodEnv = "EGRET_TEST_FLOOD"

func floodMain() int {
	args := strings.SplitN(os.Getenv(floodEnv), " ", 3)
	number, _ := strconv.Atoi(args[0])
	text, err := strconv.Unquote(args[2])
	if err != nil {
		return 2
	}
	conns := make([]net.Conn, 0, number)
	for range number {
		c, err := net.Dial("tcp", args[1])
		if err != nil {
			continue // refused
		}
		conns = append(conns, c) // keeps it from being closed
		if _, err := io.WriteString(c, text); err != nil {
			continue // given up already
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	return 0
}

// flood starts such a client and waits until it has said everything; the function that
// it returns ends it.
func flood(t *testing.T, number int, address, text string) func() {
	t.Helper()
	cmd := exec.Command(must(os.Executable())(t))
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %q", floodEnv, number, address, text))
	stdin := must(cmd.StdinPipe())(t)
	stdout := must(cmd.StdoutPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the client: %q, %v", line, err)
	}
	return func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
}

// memory is what the process holds of heap and stacks, in bytes, and its resident size.
// What is let go of during a collection counts until the next, so it is the least of some
// samples, until the process hardly allocates.
func memory(t *testing.T) (held, resident int64) {
	t.Helper()
	var m runtime.MemStats
	for range 8 {
		before := m.TotalAlloc
		runtime.GC()
		runtime.GC() // what pools gave up in the first
		runtime.ReadMemStats(&m)
		if now := int64(m.HeapAlloc + m.StackInuse); held == 0 || now < held {
			held = now
		}
		if m.TotalAlloc-before < max(m.HeapAlloc/100, 64<<10) {
			break
		}
	}
	fields := strings.Fields(string(must(os.ReadFile("/proc/self/statm"))(t)))
	pages := must(strconv.ParseInt(fields[1], 10, 64))(t)
	return held, pages * int64(os.Getpagesize())
}
