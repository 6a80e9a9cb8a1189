package main

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckNeeds(t *testing.T) {
	if err := checkNeeds(func(string) (string, error) { return "/bin/x", nil }); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
	err := checkNeeds(func(name string) (string, error) {
		if name == "nft" || name == "curl" {
			return "", errors.New("not found")
		}
		return "/bin/x", nil
	})
	if err == nil || !strings.Contains(err.Error(), "no nft, curl") || !strings.Contains(err.Error(), "apt-get install nftables curl") {
		t.Errorf("nft and curl are missing: %v", err)
	}
}
