package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// clusterProgram has the commands for clusters. It is a program of its own because Helm and
// the client of Kubernetes cost 2.4 MB of memory and 13 ms of processor time at the start,
// which `egret run` should not pay.
const clusterProgram = "egret-cluster"

// istioctl is the other name of the program: by that name every command is for a cluster.
const istioctl = "istioctl"

// clusterCommands are those that exist for clusters only, with what help says.
var clusterCommands = [][2]string{
	{"install", "Install Egret on a cluster, or reconfigure it"},
	{"upgrade", "Bring an installation to the version of this program"},
	{"uninstall", "Remove Egret from a cluster"},
	{"verify-install", "Check that a cluster has what install applies, and that it is ready"},
	{"manifest", "Print what would be installed"},
	{"kube-inject", "Put the proxy into the pods of YAML files"},
	{"logs", "Print what the proxies of a cluster let out and refused"},
}

// clusterFlags are flags that only commands for clusters have.
var clusterFlags = []string{"--kubeconfig", "-c", "--context", "--istioNamespace", "-i"}

// setting is what of the surroundings decides whether a command is for a cluster.
type setting struct {
	// program is the name by which it was called.
	program string
	// kubeconfig: there is one.
	kubeconfig bool
}

// forCluster says whether a command line is for a cluster. Commands that this machine has too
// are for the machine where the command line says so, or has no cluster to be for.
func forCluster(args []string, s setting) bool {
	words, flags := split(args)
	if len(words) == 0 {
		return false
	}
	command := words[0]
	if command == "help" && len(words) > 1 {
		command = words[1]
	}
	if slices.ContainsFunc(clusterCommands, func(c [2]string) bool { return c[0] == command }) {
		return true
	}
	if words[0] == "help" {
		return false
	}
	cluster := s.kubeconfig || s.program == istioctl || has(flags, clusterFlags...)
	switch command {
	case "version":
		return !flags["--remote=false"] && cluster
	case "proxy-status", "ps":
		return !flags["--monitoring-address"] && cluster
	case "analyze": // of a cluster where no file is named
		return cluster && leading(args) == 1 && len(words) <= 2 && !has(flags, "--help", "-h") || has(flags, "-A", "--all-namespaces")
	case "explain": // of a pod, which stands before any flag or is written pod/NAME; with files it is of this machine
		return !has(flags, "-f", "--filename") && (s.program == istioctl || has(flags, clusterFlags...) || leading(args) > 2 || slices.ContainsFunc(words, isTyped))
	case "proxy-config", "pc": // of a pod, which stands before any flag, or of this machine
		return !has(flags, "--admin-address", "--file") && (s.program == istioctl || has(flags, clusterFlags...) || leading(args) > 2)
	}
	return false
}

// typed is how kubectl names an object: KIND/NAME.
var typed = regexp.MustCompile(`^[a-z][a-z.]*/[a-z0-9][-a-z0-9.]*$`)

func isTyped(word string) bool { return typed.MatchString(word) }

// leading is the number of arguments before the first flag.
func leading(args []string) int {
	n := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if n < 0 {
		return len(args)
	}
	return n
}

// split parts a command line into words and the names of flags; what follows "--" is neither.
// The value of a flag counts as a word, unless it is one that every command for clusters has.
func split(args []string) (words []string, flags map[string]bool) {
	flags = map[string]bool{}
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return words, flags
		case !strings.HasPrefix(a, "-") || a == "-":
			words = append(words, a)
		default:
			name, _, ok := strings.Cut(a, "=")
			flags[a], flags[name] = true, true
			if !ok && slices.Contains(clusterFlags, name) {
				i++
			}
		}
	}
	return words, flags
}

func has(flags map[string]bool, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return flags[n] })
}

// haveKubeconfig says whether there is a file that says how to reach a cluster.
func haveKubeconfig() bool {
	if list := os.Getenv("KUBECONFIG"); list != "" {
		return slices.ContainsFunc(filepath.SplitList(list), exists)
	}
	home, err := os.UserHomeDir()
	return err == nil && exists(filepath.Join(home, ".kube", "config"))
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// executeCluster becomes the program for clusters, by the same name; it returns only when
// that fails.
func executeCluster(program string, args []string) error {
	path, err := findClusterProgram()
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	err = syscall.Exec(path, append([]string{program}, args...), os.Environ())
	return &exitError{code: 1, err: fmt.Errorf("%s: %w", path, err)}
}

// findClusterProgram looks beside this program, links followed, and on the PATH.
func findClusterProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), clusterProgram)
	if exists(beside) {
		return beside, nil
	}
	path, err := exec.LookPath(clusterProgram)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("the commands for clusters are a program of their own, %s, which is not beside %s nor on the PATH", clusterProgram, self)
	}
	return path, err
}

// clusterOnly are the commands that help should name; Main executes them before it gets here.
func clusterOnly(program string) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range clusterCommands {
		out = append(out, &cobra.Command{Use: c[0], Short: c[1], GroupID: "cluster", DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				return executeCluster(program, append([]string{cmd.Name()}, args...))
			}})
	}
	return out
}
