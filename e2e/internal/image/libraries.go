package image

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// sharedLibraries asks ldd; a static program needs none.
func sharedLibraries(program string) ([]string, error) {
	out, err := exec.Command("ldd", program).CombinedOutput()
	if strings.Contains(string(out), "not a dynamic executable") || strings.Contains(string(out), "statically linked") {
		return nil, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, out)
	}
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	return parseLDD(string(out))
}
