package main

import (
	"fmt"
	"strings"
)

// originHost is the name in every request; bench/proxy registers it.
const originHost = "origin.bench.test"

// bodySize is the size of the origin's answers in bytes, with its head about 1 KB.
const bodySize = 813

// nginxArgs run nginx in the foreground as one process.
func nginxArgs(dir, conf string) []string {
	return []string{"-e", "stderr", "-p", dir, "-c", conf}
}

// nginxFrame is what both nginx configurations have in common. A single process, so
// that its CPU time is that of one pid.
func nginxFrame(dir, name, http string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid %[1]s/%[2]s.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
	access_log off;
	keepalive_requests 1000000000;
	keepalive_timeout 300s;
	client_body_temp_path %[1]s/%[2]s-body;
	proxy_temp_path %[1]s/%[2]s-proxy;
	fastcgi_temp_path %[1]s/%[2]s-fastcgi;
	uwsgi_temp_path %[1]s/%[2]s-uwsgi;
	scgi_temp_path %[1]s/%[2]s-scgi;
%[3]s}
`, dir, name, http)
}

func originConfig(dir string, port int) string {
	return nginxFrame(dir, "origin", fmt.Sprintf(`	server {
		listen %s backlog=4096;
		default_type text/plain;
		location / { return 200 "%s"; }
	}
`, address(port), strings.Repeat("x", bodySize)))
}

func nginxConfig(dir string, port, origin int) string {
	return nginxFrame(dir, "nginx", fmt.Sprintf(`	upstream origin {
		server %s;
		keepalive 256;
		keepalive_requests 1000000000;
	}
	server {
		listen %s backlog=4096;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
		}
	}
`, address(origin), address(port)))
}

func haproxyConfig(port, origin int) string {
	return fmt.Sprintf(`global
	nbthread 1
	maxconn 4096
defaults
	mode http
	timeout connect 5s
	timeout client 300s
	timeout server 300s
	http-reuse always
frontend bench
	bind %s backlog 4096
	default_backend origin
backend origin
	server origin %s
`, address(port), address(origin))
}
