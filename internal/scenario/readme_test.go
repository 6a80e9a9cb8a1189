package scenario

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs every command of the README's shell blocks, in order, in a folder
// that has the examples. Targets of make must exist; they are run by CI itself.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Skip("the README is not beside this test program")
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../../examples")); err != nil {
		t.Fatal(err)
	}
	commands := shellCommands(string(readme))
	if len(commands) < 8 {
		t.Fatalf("only %d commands found in the README", len(commands))
	}
	for _, line := range commands {
		if target, ok := strings.CutPrefix(line, "make "); ok {
			target = strings.Fields(target)[0]
			if !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
				t.Errorf("the README names make %s, which the Makefile does not have", target)
			}
			continue
		}
		cmd := exec.Command("sh", "-e", "-c", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(os.Getenv(binaryEnv))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		t.Logf("$ %s\n%s", line, out)
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "logs", "istio-egressgateway.log"))
	if err != nil || !strings.Contains(string(log), "api.example.com") {
		t.Errorf("the README's access log of the gateway does not show the call: %v\n%s", err, log)
	}
}

// shellCommands are the lines of the blocks marked sh.
func shellCommands(markdown string) []string {
	var out []string
	inside := false
	for line := range strings.Lines(markdown) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh":
			inside = true
		case line == "```":
			inside = false
		case inside && line != "":
			out = append(out, line)
		}
	}
	return out
}

// TestExamplesAreClean: every example folder passes analyze without a finding.
func TestExamplesAreClean(t *testing.T) {
	folders, err := filepath.Glob("../../examples/*/")
	if err != nil || len(folders) == 0 {
		t.Skip("the examples are not beside this test program")
	}
	for _, folder := range folders {
		out, err := exec.Command(os.Getenv(binaryEnv), "analyze", folder).CombinedOutput()
		if err != nil || strings.Contains(string(out), "warning:") {
			t.Errorf("egret analyze %s: %v\n%s", folder, err, out)
		}
	}
}
