package node

import (
	"os"
	"path/filepath"
)

// processes are the node's programs in the order of their start.
func (n *Node) processes() []process {
	program := func(name string) string { return filepath.Join(n.config.Programs, name) }
	file := func(name string) string { return filepath.Join(n.config.Dir, name) }
	return []process{
		{name: "etcd", args: []string{program("etcd"), "--data-dir", file("etcd"), "--unsafe-no-fsync",
			"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
			"--listen-peer-urls", "http://127.0.0.1:2380"}},
		{name: "kube-apiserver", args: append([]string{program("kube-apiserver")}, n.apiServerArgs()...)},
		{name: "containerd", args: []string{program("containerd"), "--config", file("containerd.toml")},
			env: []string{"PATH=" + n.config.Programs + ":" + os.Getenv("PATH")}},
		{name: "kubelet", args: []string{program("kubelet"), "--config", file("kubelet.yaml"),
			"--kubeconfig", file("kubelet.kubeconfig"), "--hostname-override", nodeName, "--node-ip", nodeAddr,
			"--root-dir", file("kubelet")}},
		{name: "kube-controller-manager", args: []string{program("kube-controller-manager"),
			"--kubeconfig", file("controller-manager.kubeconfig"), "--bind-address", "127.0.0.1", "--leader-elect=false",
			"--use-service-account-credentials", "--service-account-private-key-file", n.pki.path("sa.key"),
			"--root-ca-file", n.pki.path("ca.crt"),
			// Without leader election it does not start anew after an outage of the API
			// server, and would take the node for dead, which could not report either.
			"--node-monitor-grace-period", "5m"}},
		{name: "kube-scheduler", args: []string{program("kube-scheduler"),
			"--kubeconfig", file("scheduler.kubeconfig"), "--bind-address", "127.0.0.1", "--leader-elect=false"}},
	}
}

func (n *Node) apiServerArgs() []string {
	return []string{
		"--etcd-servers", "http://127.0.0.1:2379",
		"--advertise-address", nodeAddr,
		"--secure-port", "6443",
		"--tls-cert-file", n.pki.path("apiserver.crt"),
		"--tls-private-key-file", n.pki.path("apiserver.key"),
		"--client-ca-file", n.pki.path("ca.crt"),
		"--kubelet-client-certificate", n.pki.path("apiserver-kubelet-client.crt"),
		"--kubelet-client-key", n.pki.path("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", n.pki.path("sa.pub"),
		"--service-account-signing-key-file", n.pki.path("sa.key"),
		"--token-auth-file", filepath.Join(n.config.Dir, "tokens.csv"),
		"--authorization-mode", "Node,RBAC",
		"--enable-admission-plugins", "NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range", serviceCIDR,
	}
}
