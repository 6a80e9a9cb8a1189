package discovery

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// What follows is what istiod tells at /debug, in its names: istio/istio
// pilot/pkg/xds/debug.go, with fields of pilot/pkg/model.

// RegistryService is a service as /debug/registryz has it.
type RegistryService struct {
	Attributes               RegistryAttributes
	Ports                    []RegistryPort `json:"ports"`
	Hostname                 string         `json:"hostname"`
	DefaultAddress           string         `json:"defaultAddress"`
	AutoAllocatedIPv4Address string         `json:"autoAllocatedIPv4Address,omitempty"`
	Resolution               int
	MeshExternal             bool
}

// RegistryAttributes say where a service comes from.
type RegistryAttributes struct{ ServiceRegistry, Name, Namespace string }

// RegistryPort is a port of a service.
type RegistryPort struct {
	Name     string `json:"name"`
	Port     uint32 `json:"port"`
	Protocol string `json:"protocol"`
}

// Registry is what /debug/registryz tells: all services, the oldest first.
func (s *Server) Registry() []RegistryService {
	out := []RegistryService{}
	for _, svc := range s.last.Load().Services() {
		out = append(out, registryService(svc))
	}
	return out
}

func registryService(svc *mesh.Service) RegistryService {
	r := RegistryService{
		Attributes: RegistryAttributes{ServiceRegistry: "External", Name: svc.Source.Name, Namespace: svc.Namespace},
		Ports:      []RegistryPort{}, Hostname: svc.Host, DefaultAddress: "0.0.0.0",
		Resolution: resolutionNumber(svc), MeshExternal: !svc.Internal,
	}
	if svc.Registry == mesh.RegistryKubernetes {
		r.Attributes.ServiceRegistry = "Kubernetes"
	}
	if len(svc.Addresses) > 0 {
		r.DefaultAddress = svc.Addresses[0].String()
		if svc.Addresses[0].IsSingleIP() {
			r.DefaultAddress = svc.Addresses[0].Addr().String()
		}
	}
	if len(svc.AutoAddresses) > 0 {
		r.AutoAllocatedIPv4Address = svc.AutoAddresses[0].String()
	}
	for _, p := range svc.Ports {
		r.Ports = append(r.Ports, RegistryPort{p.Name, p.Number, protocolWord(p)})
	}
	return r
}

// resolutionNumber is Istio's model.Resolution.
func resolutionNumber(svc *mesh.Service) int {
	switch {
	case svc.Headless || svc.Resolution == mesh.ResolutionNone:
		return 3 // Passthrough
	case svc.Resolution == mesh.ResolutionDNS:
		return 1 // DNSLB
	case svc.Resolution == mesh.ResolutionDNSRoundRobin:
		return 2 // DNSRoundRobinLB
	}
	return 0 // ClientSideLB
}

func protocolWord(p mesh.Port) string {
	switch {
	case p.Declared != "":
		return p.Declared
	case p.Protocol == mesh.ProtocolAuto:
		return "UnsupportedProtocol" // Istio's word for one that is detected
	}
	return string(p.Protocol)
}

// PortEndpoints are the endpoints of a service's port as /debug/endpointz has them.
type PortEndpoints struct {
	Service   string     `json:"svc"` // "host:name of the port"
	Endpoints []Endpoint `json:"ep"`
}

// Endpoint is one of them.
type Endpoint struct {
	Addresses       []string
	EndpointPort    uint32
	ServicePortName string
	Labels          map[string]string `json:",omitempty"`
	ServiceAccount  string            `json:",omitempty"`
	Namespace       string            `json:",omitempty"`
	Locality        struct{ Label string }
	LbWeight        uint32
}

// Endpoints is what /debug/endpointz tells.
func (s *Server) Endpoints() []PortEndpoints {
	out := []PortEndpoints{}
	for _, svc := range s.last.Load().Services() {
		for _, p := range svc.Ports {
			out = append(out, portEndpoints(svc, p))
		}
	}
	return out
}

func portEndpoints(svc *mesh.Service, p mesh.Port) PortEndpoints {
	out := PortEndpoints{Service: svc.Host + ":" + p.Name, Endpoints: []Endpoint{}}
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		number, ok := e.Port(p)
		if !ok {
			continue
		}
		told := Endpoint{
			Addresses: []string{e.Address}, EndpointPort: number, ServicePortName: p.Name, Labels: e.Labels,
			ServiceAccount: e.ServiceAccount, Namespace: e.Namespace, LbWeight: max(e.Weight, 1),
		}
		told.Locality.Label = e.Locality
		out.Endpoints = append(out.Endpoints, told)
	}
	return out
}

// ConfigObject is an object of Istio's as /debug/configz has it.
type ConfigObject struct {
	Kind       string          `json:"kind"`
	APIVersion string          `json:"apiVersion"`
	Metadata   ConfigMetadata  `json:"metadata"`
	Spec       json.RawMessage `json:"spec,omitempty"`
}

// ConfigMetadata is what an object is named by.
type ConfigMetadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	CreationTimestamp *time.Time        `json:"creationTimestamp,omitempty"`
}

// Configs is what /debug/configz tells: the objects that are in force.
func (s *Server) Configs() ([]ConfigObject, error) {
	out := []ConfigObject{}
	objects := s.options.Source.Current().Objects
	for o := range objects.All() {
		m := o.Common()
		c := ConfigObject{Kind: m.Kind, APIVersion: m.APIVersion, Metadata: ConfigMetadata{Name: m.Name, Namespace: m.Namespace, Labels: m.Labels}}
		if !m.Created.IsZero() {
			c.Metadata.CreationTimestamp = &m.Created
		}
		if spec := specOf(o); spec != nil {
			text, err := protojson.Marshal(spec)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Ref, err)
			}
			c.Spec = text
		}
		out = append(out, c)
	}
	return out, nil
}

func specOf(o istioapi.Object) proto.Message {
	switch t := o.(type) {
	case *istioapi.ServiceEntry:
		return t.Spec
	case *istioapi.Gateway:
		return t.Spec
	case *istioapi.VirtualService:
		return t.Spec
	case *istioapi.DestinationRule:
		return t.Spec
	case *istioapi.Sidecar:
		return t.Spec
	case *istioapi.WorkloadEntry:
		return t.Spec
	case *istioapi.PeerAuthentication:
		return t.Spec
	case *istioapi.Telemetry:
		return t.Spec
	case *istioapi.MeshConfig:
		return t.Spec
	}
	return nil
}

// Clients is what /debug/adsz tells: who is connected.
type Clients struct {
	Total     int      `json:"totalClients"`
	Connected []Client `json:"clients"`
}

// Client is a connected proxy.
type Client struct {
	ConnectionID string    `json:"connectionId"`
	ConnectedAt  time.Time `json:"connectedAt"`
	PeerAddress  string    `json:"address"`
	ProxyType    string    `json:"proxyType,omitempty"`
	// Watches is type -> how many names were asked for; Istio has the names here.
	Watches map[string]int `json:"watches"`
}

// Clients tells who is connected, ordered by the proxy's id.
func (s *Server) Clients() Clients {
	out := Clients{Connected: []Client{}}
	for _, n := range s.Status() {
		c := Client{ConnectionID: n.Proxy, ConnectedAt: n.Connected, PeerAddress: n.Remote, ProxyType: n.ProxyType, Watches: map[string]int{}}
		for _, t := range n.Types {
			c.Watches[t.TypeURL] = t.Subscribed
		}
		out.Connected = append(out.Connected, c)
	}
	out.Total = len(out.Connected)
	return out
}

// UpToDate says how many of the connected proxies have acknowledged all that they were
// sent.
func (s *Server) UpToDate() (current, all int) {
	for _, n := range s.ads.Status() {
		all++
		waiting := n.Error != ""
		for _, t := range n.Types {
			waiting = waiting || len(t.Pending)+len(t.Refused) > 0
		}
		if !waiting {
			current++
		}
	}
	return current, all
}
