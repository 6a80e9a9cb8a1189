// Command startup measures what egret run adds to a command: the time and the CPU time
// of `egret run -- true`, beside those of `egret version` and of `true` alone. They take
// turns, so that what else the machine does meets all of them.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

func main() {
	egret := flag.String("egret", "bin/egret", "the program that is measured")
	runs := flag.Int("runs", 30, "how often")
	flag.Parse()
	commands := [][]string{{"true"}, {*egret, "version"}, {*egret, "run", "--", "true"}}
	wall, cpu := make([][]time.Duration, len(commands)), make([][]time.Duration, len(commands))
	for range max(*runs, 1) {
		for i, c := range commands {
			w, u, err := measure(c)
			if err != nil {
				fmt.Fprintf(os.Stderr, "startup: %v: %v\n", c, err)
				os.Exit(1)
			}
			wall[i], cpu[i] = append(wall[i], w), append(cpu[i], u)
		}
	}
	for i, c := range commands {
		fmt.Printf("%-28s wall median %6.1f ms, best %6.1f ms   CPU median %6.1f ms, best %6.1f ms\n", fmt.Sprint(c),
			median(wall[i]), ms(slices.Min(wall[i])), median(cpu[i]), ms(slices.Min(cpu[i])))
	}
}

// measure runs a command; the CPU time is that of all its processes.
func measure(command []string) (wall, cpu time.Duration, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	begun := time.Now()
	err = cmd.Run()
	wall = time.Since(begun)
	if cmd.ProcessState != nil {
		cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return wall, cpu, err
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return ms(d[len(d)/2])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
