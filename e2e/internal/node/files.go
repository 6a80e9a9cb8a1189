package node

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/egret-mesh/egret/e2e/internal/image"
)

//go:embed manifests
var templates embed.FS

// values are what the templates of configuration files know.
type values struct {
	Dir, Programs, Resolver, CA                    string
	NodeAddr, APIServer, ClusterCIDR, PodCIDR, DNS string
	Registry, PauseImage, CoreDNSImage, ProxyImage string
	ControlGroup, ContainerdSocket                 string
}

func (n *Node) values() values {
	const docker = "docker.io/"
	return values{
		Dir: n.config.Dir, Programs: n.config.Programs, Resolver: n.config.Resolver, CA: n.pki.path("ca.crt"),
		NodeAddr: nodeAddr, APIServer: apiServer, ClusterCIDR: clusterCIDR, PodCIDR: podCIDR, DNS: dnsServiceAddr,
		Registry: "http://" + RegistryAddr, PauseImage: docker + image.Pause, CoreDNSImage: docker + image.CoreDNS,
		ProxyImage: docker + image.KubeProxy, ControlGroup: controlGroup(filepath.Base(n.config.Dir)),
		ContainerdSocket: "/run/containerd/containerd.sock",
	}
}

// writeFiles writes the configuration of every program.
func (n *Node) writeFiles() error {
	v := n.values()
	for name, to := range map[string]string{
		"containerd.toml": "containerd.toml",
		"hosts.toml":      "certs.d/docker.io/hosts.toml",
		"cni.conflist":    "cni/10-pods.conflist",
		"kubelet.yaml":    "kubelet.yaml",
		"system.yaml":     "manifests.yaml",
		"resolv.conf":     "resolv.conf",
	} {
		if err := n.render(name, to, v); err != nil {
			return err
		}
	}
	return n.writeUsers()
}

func (n *Node) render(name, to string, v values) error {
	t, err := template.ParseFS(templates, "manifests/"+name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return err
	}
	path := filepath.Join(n.config.Dir, to)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// writeUsers gives each component its user: a token for the API server and a
// kubeconfig.
func (n *Node) writeUsers() error {
	ca, err := os.ReadFile(n.pki.path("ca.crt"))
	if err != nil {
		return err
	}
	var tokens bytes.Buffer
	for _, u := range []struct{ name, user, groups string }{
		{"admin", "admin", "system:masters"},
		{"kubelet", "system:node:" + nodeName, "system:nodes"},
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
	} {
		token := rand.Text()
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, u.user, u.name, u.groups)
		config := fmt.Sprintf(kubeconfig, apiServer, base64.StdEncoding.EncodeToString(ca), token)
		if err := os.WriteFile(filepath.Join(n.config.Dir, u.name+".kubeconfig"), []byte(config), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(n.config.Dir, "tokens.csv"), tokens.Bytes(), 0o600)
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: egret-e2e
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: user
  user:
    token: %s
contexts:
- name: egret-e2e
  context: {cluster: egret-e2e, user: user}
current-context: egret-e2e
`

// makeControlGroups makes the group below which the kubelet keeps those of the pods,
// in each hierarchy of the machine (one with cgroup v2, one per controller with v1).
func makeControlGroups(name string) error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		roots = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, procs := range roots {
		root := filepath.Dir(procs)
		group := filepath.Join(root, name)
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		// With v1, no process may join a group without CPUs and memory nodes.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parents, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, file), parents, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
