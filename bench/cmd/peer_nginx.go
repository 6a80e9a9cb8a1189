package main

import (
	"context"
	"fmt"
	"strings"
)

// bodySize is the size of the origin's answers in bytes, with its head about 1 KB.
const bodySize = 813

// nginxArgs run nginx in the foreground as one process.
func nginxArgs(dir, conf string) []string {
	return []string{"-e", "stderr", "-p", dir, "-c", conf}
}

// nginxFrame is what all nginx configurations have in common. A single process, so that
// its CPU time is that of one pid.
func nginxFrame(dir, name, http string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid %[1]s/%[2]s.pid;
error_log stderr error;
events { worker_connections 19900; }
http {
	keepalive_requests 1000000000;
	keepalive_timeout 300s;
	sendfile on;
	tcp_nopush on;
	client_max_body_size 16m;
	client_body_temp_path %[1]s/%[2]s-body;
	proxy_temp_path %[1]s/%[2]s-proxy;
	fastcgi_temp_path %[1]s/%[2]s-fastcgi;
	uwsgi_temp_path %[1]s/%[2]s-uwsgi;
	scgi_temp_path %[1]s/%[2]s-scgi;
%[3]s}
`, dir, name, http)
}

// originConfig answers "/" with bodySize bytes, "/up" after it has read the body, and
// everything else with a file of the folder.
func originConfig(dir string, port int) string {
	return nginxFrame(dir, source, fmt.Sprintf(`	access_log off;
	server {
		listen %s backlog=4096;
		default_type text/plain;
		root %s;
		location = / { return 200 "%s"; }
		location = /up { return 200 "taken"; }
		location / { }
	}
`, address(port), dir, strings.Repeat("x", bodySize)))
}

// startOrigin starts the HTTP/1.1 origin.
func (s *session) startOrigin(ctx context.Context) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf, err := s.write("origin.conf", originConfig(s.dir, port))
	if err != nil {
		return nil, err
	}
	p, err := s.server(ctx, source, s.otherCore, nil, asks200(address(port)),
		append([]string{s.tools[nginx]}, nginxArgs(s.dir, conf)...)...)
	if err != nil {
		return nil, err
	}
	return &target{name: source, address: address(port), processes: []*process{p}}, nil
}

// nginxLog writes what Istio's default line has, as far as nginx knows it. With a buffer,
// as Envoy's log has one.
func nginxLog(path string) string {
	if path == "" {
		return "\taccess_log off;\n"
	}
	return `	log_format bench '[$time_iso8601] "$request" $status - - "-" $request_length $body_bytes_sent '
		'$request_time $upstream_response_time "$http_x_forwarded_for" "$http_user_agent" "$http_x_request_id" '
		'"$http_host" "$upstream_addr" $proxy_host $server_addr:$server_port $remote_addr:$remote_port';
	access_log ` + path + " bench buffer=64k flush=10s;\n"
}

func nginxConfig(dir, log string, port int, origin string) string {
	var b strings.Builder
	b.WriteString(nginxLog(log))
	b.WriteString("\tserver_names_hash_max_size 2048;\n")
	server := func(name, host, listen string) {
		fmt.Fprintf(&b, `	upstream %[1]s {
		server %[2]s;
		keepalive 1024;
		keepalive_requests 1000000000;
	}
	server {
		listen %[3]s;
		server_name %[4]s;
		location / {
			proxy_pass http://%[1]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
		}
	}
`, name, origin, listen, host)
	}
	fmt.Fprintf(&b, "\tserver {\n\t\tlisten %s default_server backlog=4096;\n\t\treturn 502;\n\t}\n", address(port))
	server("origin", originHost, address(port))
	for i := range others {
		server(fmt.Sprintf("other-%d", i), otherHost(i), address(port))
	}
	return nginxFrame(dir, nginx, b.String())
}

func (s *session) startNginx(ctx context.Context, origin string, accessLog bool) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	log := ""
	if accessLog {
		log = s.logFile(nginx)
	}
	conf, err := s.write("nginx.conf", nginxConfig(s.dir, log, port, origin))
	if err != nil {
		return nil, err
	}
	p, err := s.server(ctx, nginx, s.proxyCore, nil, asks200(address(port)),
		append([]string{s.tools[nginx]}, nginxArgs(s.dir, conf)...)...)
	if err != nil {
		return nil, err
	}
	return &target{name: nginx, address: address(port), processes: []*process{p}}, nil
}
