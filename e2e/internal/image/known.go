package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Names of the images that the node itself needs. The registry has them as if it were
// docker.io.
const (
	Pause     = "egret-e2e/pause:1"
	CoreDNS   = "egret-e2e/coredns:1"
	KubeProxy = "egret-e2e/kube-proxy:1"
)

// Node are the images of the node itself, from its programs.
func Node(programs string) ([]Image, error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, fmt.Errorf("kube-proxy needs nft (Debian: apt-get install nftables): %w", err)
	}
	nftFiles, err := Programs(nft)
	if err != nil {
		return nil, err
	}
	static := func(name, program string) Image {
		to := "/usr/local/bin/" + program
		return Image{Name: name, Entrypoint: []string{to},
			Layers: [][]File{{{Path: to, Mode: 0o755, From: filepath.Join(programs, program)}}}}
	}
	proxy := static(KubeProxy, "kube-proxy")
	proxy.Layers = append(proxy.Layers, append(nftFiles, File{Path: "/tmp", Dir: true, Mode: 0o777 | os.ModeSticky}))
	return []Image{static(Pause, "pause"), static(CoreDNS, "coredns"), proxy}, nil
}

// Egret are the two images of the program, as its charts name them. roots is the
// bundle of certificates that a proxy trusts.
func Egret(hub, tag, programs string, roots []byte) []Image {
	one := func(name, program string) Image {
		to := "/usr/local/bin/" + program
		return Image{
			Name: hub + "/" + name + ":" + tag, Entrypoint: []string{to}, User: "1337",
			Layers: [][]File{{
				{Path: to, Mode: 0o755, From: filepath.Join(programs, program)},
				{Path: bundle, Mode: 0o644, Data: roots},
				{Path: "/tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
			}},
		}
	}
	return []Image{one("pilot", "egretd"), one("proxyv2", "egret-proxy")}
}

const bundle = "/etc/ssl/certs/ca-certificates.crt"

// Nginx is the lab's image: nginx, curl and a bundle of certificates, from this
// machine's own programs.
func Nginx(roots []byte) (Image, error) {
	var programs []string
	for _, name := range []string{"nginx", "curl", "bash", "cat", "ls", "sleep", "env", "id", "head", "grep"} {
		at, err := exec.LookPath(name)
		if err != nil {
			return Image{}, fmt.Errorf("the lab's image needs %s (Debian: apt-get install nginx-light curl): %w", name, err)
		}
		programs = append(programs, at)
	}
	files, err := Programs(programs...)
	if err != nil {
		return Image{}, err
	}
	base := []File{
		{Path: "/tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
		{Path: "/bin/sh", Link: programs[2]},
		{Path: "/etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101:nginx:/nonexistent:/bin/false\n")},
		{Path: "/etc/group", Mode: 0o644, Data: []byte("root:x:0:\nnginx:x:101:\n")},
		{Path: "/etc/nsswitch.conf", Mode: 0o644, Data: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
		{Path: "/etc/nginx/nginx.conf", Mode: 0o644, Data: []byte(nginxConf)},
		{Path: "/usr/share/nginx/html/index.html", Mode: 0o644, Data: []byte("<h1>Welcome to nginx!</h1>\n")},
		{Path: "/var/log/nginx", Dir: true, Mode: 0o755},
		{Path: "/var/lib/nginx", Dir: true, Mode: 0o755},
		{Path: "/run", Dir: true, Mode: 0o755},
	}
	return Image{
		Name:   "library/nginx:latest",
		Layers: [][]File{append(base, files...), {{Path: bundle, Mode: 0o644, Data: roots}}},
		Cmd:    []string{programs[0], "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"},
	}, nil
}

const nginxConf = `user nginx;
worker_processes 1;
error_log /dev/stderr warn;
pid /run/nginx.pid;
events { worker_connections 128; }
http {
	access_log /dev/stdout;
	server {
		listen 80;
		root /usr/share/nginx/html;
	}
}
`
