package main

import (
	"fmt"
	"strings"
)

// needed are the programs of this machine that a node is built from, with Debian's
// package of each.
func needed() [][2]string {
	return [][2]string{
		{"go", "Go itself"}, {"cc", "gcc libc6-dev"}, {"pkg-config", "pkg-config libseccomp-dev"}, {"ldd", "libc-bin"},
		{"nft", "nftables"}, {"nginx", "nginx-light"}, {"curl", "curl"}, {"pkill", "procps"}, {"openssl", "openssl"},
	}
}

// checkNeeds names everything that is missing, before anything is built.
func checkNeeds(look func(string) (string, error)) error {
	var programs, packages []string
	for _, n := range needed() {
		if _, err := look(n[0]); err != nil {
			programs, packages = append(programs, n[0]), append(packages, n[1])
		}
	}
	if len(programs) == 0 {
		return nil
	}
	return fmt.Errorf("this machine has no %s (Debian: apt-get install %s)", strings.Join(programs, ", "), strings.Join(packages, " "))
}
