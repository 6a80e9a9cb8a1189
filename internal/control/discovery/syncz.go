package discovery

import (
	"strings"
	"time"

	"github.com/egret-mesh/egret/internal/xds"
)

// SyncStatus is the state of one connected proxy, as JSON. The fields of the first part
// are those of Istio's /debug/syncz: a version ("nonce" in Istio) that was sent last, and
// one that was acknowledged last, for each of the four types of Envoy.
type SyncStatus struct {
	Proxy     string `json:"proxy"` // the node's id
	ProxyType string `json:"proxy_type,omitempty"`

	ClusterSent   string `json:"cluster_sent,omitempty"`
	ClusterAcked  string `json:"cluster_acked,omitempty"`
	ListenerSent  string `json:"listener_sent,omitempty"`
	ListenerAcked string `json:"listener_acked,omitempty"`
	RouteSent     string `json:"route_sent,omitempty"`
	RouteAcked    string `json:"route_acked,omitempty"`
	EndpointSent  string `json:"endpoint_sent,omitempty"`
	EndpointAcked string `json:"endpoint_acked,omitempty"`

	// What follows is Egret's own.
	Remote    string    `json:"remote"` // the peer's address
	Delta     bool      `json:"delta"`
	Connected time.Time `json:"connected"`
	// Error says why there is nothing new to send; "" when all is well.
	Error string       `json:"error,omitempty"`
	Types []TypeStatus `json:"types"` // in the order of pushes
}

// TypeStatus is the state of one type at one proxy.
type TypeStatus struct {
	TypeURL  string `json:"type_url"`
	Wildcard bool   `json:"wildcard"`
	// Subscribed is the number of names that were asked for, Held the number of
	// resources that the proxy has.
	Subscribed int    `json:"subscribed"`
	Held       int    `json:"held"`
	Sent       string `json:"sent,omitempty"`
	Acked      string `json:"acked,omitempty"`
	// Pending were not answered yet, Refused were refused (the whole response counts).
	Pending []string `json:"pending,omitempty"`
	Refused []string `json:"refused,omitempty"`
	// NackedVersion and Nack are the last refusal and its words, until something newer
	// was accepted.
	NackedVersion string `json:"nacked_version,omitempty"`
	Nack          string `json:"nack,omitempty"`
}

// Status tells the state of every connected proxy, ordered by its id.
func (s *Server) Status() []SyncStatus {
	out := []SyncStatus{}
	for _, n := range s.ads.Status() {
		out = append(out, syncStatus(n))
	}
	return out
}

func syncStatus(n xds.NodeStatus) SyncStatus {
	s := SyncStatus{
		Proxy: n.NodeID, Remote: n.Remote, Delta: n.Delta, Connected: n.Connected, Error: n.Error,
		Types: []TypeStatus{},
	}
	if kind, _, ok := strings.Cut(n.NodeID, "~"); ok {
		s.ProxyType = kind
	}
	for _, t := range n.Types {
		status := TypeStatus{
			TypeURL: t.TypeURL, Wildcard: t.Wildcard, Subscribed: t.Subscribed, Held: t.Held,
			Sent: t.Version, Acked: t.Accepted, Pending: t.Pending, Refused: t.Refused,
		}
		if t.Nack != nil {
			status.NackedVersion, status.Nack = t.Nack.Version, t.Nack.Message
		}
		s.Types = append(s.Types, status)
		switch t.TypeURL {
		case xds.ClusterType:
			s.ClusterSent, s.ClusterAcked = t.Version, t.Accepted
		case xds.ListenerType:
			s.ListenerSent, s.ListenerAcked = t.Version, t.Accepted
		case xds.RouteType:
			s.RouteSent, s.RouteAcked = t.Version, t.Accepted
		case xds.EndpointType:
			s.EndpointSent, s.EndpointAcked = t.Version, t.Accepted
		}
	}
	return s
}
