package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// haproxyOptions say what HAProxy is to do.
type haproxyOptions struct {
	accessLog bool
	h2        bool // both ways, with prior knowledge
	// splice is for the cases with much to copy. Always, not splice-auto: on loopback its
	// guess costs twice as much; and with pipes that hold more than the default.
	splice bool
}

// haproxyGlobal begins every configuration. The log goes to standard output, which is a
// file here: HAProxy has no log file of its own, and that costs it less than a syslog
// datagram for each request.
func haproxyGlobal(mode string, o haproxyOptions) string {
	var b strings.Builder
	b.WriteString("global\n\tnbthread 1\n\tmaxconn 4096\n")
	if o.splice {
		b.WriteString("\ttune.pipesize 524288\n")
	}
	if o.accessLog {
		b.WriteString("\tlog stdout format raw local0\n")
	}
	fmt.Fprintf(&b, "defaults\n\tmode %s\n\ttimeout connect 5s\n\ttimeout client 300s\n\ttimeout server 300s\n", mode)
	if o.splice {
		b.WriteString("\toption splice-request\n\toption splice-response\n")
	}
	if o.accessLog {
		b.WriteString("\tlog global\n")
	}
	return b.String()
}

// haproxyHTTP routes by Host, with a map file.
func haproxyHTTP(port int, origin, hosts string, o haproxyOptions) string {
	proto := ""
	if o.h2 {
		proto = " proto h2"
	}
	var b strings.Builder
	b.WriteString(haproxyGlobal("http", o))
	b.WriteString("\thttp-reuse always\n")
	fmt.Fprintf(&b, "frontend bench\n\tbind %s backlog 4096%s\n", address(port), proto)
	if o.accessLog {
		b.WriteString(`	http-request capture req.hdr(host) len 64
	http-request capture req.hdr(user-agent) len 64
	log-format '[%trl] "%HM %HU %HV" %ST %tsc - - "-" %U %B %Ta %Tr "%[capture.req.hdr(0)]" "%[capture.req.hdr(1)]" "%si:%sp" %b/%s %bi:%bp %fi:%fp %ci:%cp'
`)
	}
	fmt.Fprintf(&b, "\tuse_backend %%[req.hdr(host),field(1,:),lower,map_str(%s,refused)]\n", hosts)
	b.WriteString("backend refused\n\thttp-request deny deny_status 502\n")
	backend := func(name string) { fmt.Fprintf(&b, "backend %s\n\tserver %s %s%s\n", name, name, origin, proto) }
	backend("origin")
	for i := range others {
		backend(fmt.Sprintf("other-%d", i))
	}
	return b.String()
}

// haproxyMap names the backend of each host.
func haproxyMap() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s origin\n", originHost)
	for i := range others {
		fmt.Fprintf(&b, "%s other-%d\n", otherHost(i), i)
	}
	return b.String()
}

func (s *session) startHAProxy(ctx context.Context, origin string, o haproxyOptions, ready func(string) func(context.Context) error) (*target, error) {
	if s.tools[haproxy] == "" {
		return nil, skipError{"HAProxy is not installed (bench/install)"}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	hosts, err := s.write("haproxy.map", haproxyMap())
	if err != nil {
		return nil, err
	}
	conf, err := s.write("haproxy.cfg", haproxyHTTP(port, origin, hosts, o))
	if err != nil {
		return nil, err
	}
	p, err := s.haproxyProcess(ctx, conf, o.accessLog, ready(address(port)))
	if err != nil {
		return nil, err
	}
	return &target{name: haproxy, address: address(port), processes: []*process{p}}, nil
}

// haproxyProcess starts HAProxy in the foreground, as one process.
func (s *session) haproxyProcess(ctx context.Context, conf string, accessLog bool, ready func(context.Context) error) (*process, error) {
	path := os.DevNull
	if accessLog {
		path = s.logFile(haproxy)
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	return s.server(ctx, haproxy, s.proxyCore, log, ready, s.tools[haproxy], "-db", "-f", conf)
}
