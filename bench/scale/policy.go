package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Hosts that the probe calls. One is always allowed, the other is what is edited.
const (
	steadyHost = "steady.example"
	editedHost = "edited.example"
)

// policy is the folder that governs the probe.
type policy struct {
	folder string
	port   string // address of the server that the hosts stand for
	options
}

// write makes all files. The edited host is not in them yet.
func (p policy) write() error {
	if err := os.Mkdir(p.folder, 0o755); err != nil {
		return err
	}
	for i := range p.files {
		if err := p.file(i, false); err != nil {
			return err
		}
	}
	return nil
}

// edit writes the first file again, with or without the edited host.
func (p policy) edit(allow bool) error { return p.file(0, allow) }

// file replaces one file as an editor does.
func (p policy) file(number int, allow bool) error {
	var b strings.Builder
	for i := number; i < p.entries; i += p.files {
		fmt.Fprintf(&b, entry, i, i)
	}
	if number == 0 {
		_, port, err := net.SplitHostPort(p.port)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, server, "steady", steadyHost, port)
		if allow {
			fmt.Fprintf(&b, server, "edited", editedHost, port)
		}
	}
	path := filepath.Join(p.folder, fmt.Sprintf("entries-%d.yaml", number))
	if err := os.WriteFile(path+"~", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(path+"~", path)
}

const entry = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: host-%d, namespace: default}
spec:
  hosts: [host-%d.example.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
`

const server = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: default}
spec:
  hosts: [%s]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: %s}}
`
