package agent

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
)

// Probe is a probe of the application that injection has redirected to the status port,
// because the kubelet has no certificate of the mesh. One of HTTP, GRPC and TCP is set.
type Probe struct {
	HTTP    *HTTPProbe
	GRPC    *GRPCProbe
	TCPPort uint16
	Timeout time.Duration
}

// HTTPProbe is Kubernetes' HTTPGetAction.
type HTTPProbe struct {
	Scheme  string // "http" or "https"
	Port    uint16
	Path    string
	Headers [][2]string
}

// GRPCProbe is Kubernetes' GRPCAction: gRPC's health checking protocol.
type GRPCProbe struct {
	Port    uint16
	Service string // that is asked about; "": the server
}

// probePath is the form of the paths (istio.io/istio/pilot/cmd/pilot-agent/status).
const probePath = `^/(app-health|app-lifecycle)/[^/]+/(livez|readyz|startupz|prestopz|poststartz)$`

// readProbes reads ISTIO_KUBE_APP_PROBERS.
func readProbes(text string) (map[string]Probe, error) {
	if text == "" {
		return nil, nil
	}
	var all map[string]struct {
		HTTPGet *struct {
			Path        string                         `json:"path"`
			Port        uint16                         `json:"port"`
			Scheme      string                         `json:"scheme"`
			HTTPHeaders []struct{ Name, Value string } `json:"httpHeaders"`
		} `json:"httpGet"`
		TCPSocket *struct {
			Port uint16 `json:"port"`
		} `json:"tcpSocket"`
		GRPC *struct {
			Port    uint16 `json:"port"`
			Service string `json:"service"`
		} `json:"grpc"`
		TimeoutSeconds int32 `json:"timeoutSeconds"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("ISTIO_KUBE_APP_PROBERS: %w", err)
	}
	form := regexp.MustCompile(probePath)
	out := map[string]Probe{}
	for path, p := range all {
		if !form.MatchString(path) {
			return nil, fmt.Errorf("ISTIO_KUBE_APP_PROBERS: %q is not a path of a probe", path)
		}
		probe := Probe{Timeout: max(time.Duration(p.TimeoutSeconds)*time.Second, time.Second)}
		switch {
		case p.HTTPGet != nil:
			h := &HTTPProbe{Scheme: "http", Port: p.HTTPGet.Port, Path: p.HTTPGet.Path}
			if p.HTTPGet.Scheme == "HTTPS" {
				h.Scheme = "https"
			}
			for _, f := range p.HTTPGet.HTTPHeaders {
				h.Headers = append(h.Headers, [2]string{f.Name, f.Value})
			}
			probe.HTTP = h
		case p.TCPSocket != nil:
			probe.TCPPort = p.TCPSocket.Port
		case p.GRPC != nil:
			probe.GRPC = &GRPCProbe{Port: p.GRPC.Port, Service: p.GRPC.Service}
		default:
			return nil, fmt.Errorf("ISTIO_KUBE_APP_PROBERS: %s: only httpGet, tcpSocket and grpc are possible", path)
		}
		out[path] = probe
	}
	return out, nil
}

func marshal(tree any) (string, error) {
	b, err := yaml.Marshal(tree)
	return string(b), err
}
